"""`models promote` on a real Redis."""

from collections.abc import Iterator

import pytest

from ops.errors import OpsError
from ops.thresholds_admin import ThresholdsAdmin
from tests.harness import Artefacts, Stream

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


@pytest.fixture
def desk(services, artefacts: Artefacts, tmp_path) -> Iterator[Stream]:
    """Two models of one vocabulary and one of another; the first is active. Nothing streams."""
    stream = Stream(services.kafka_bootstrap, services.redis_url, tmp_path, artefacts, prepared=False)
    for version in (artefacts.first, artefacts.second, artefacts.foreign):
        stream.install(version)
    ThresholdsAdmin(stream.settings, "test").promote(artefacts.first, "first")
    yield stream
    stream.redis.close()


def test_another_vocabulary_is_refused_where_one_is_active(desk: Stream, artefacts: Artefacts):
    admin = ThresholdsAdmin(desk.settings, "test")
    with pytest.raises(OpsError, match=f"{artefacts.foreign}.*of its own"):
        admin.promote(artefacts.foreign, "by mistake")
    assert desk.redis.get(desk.keys.model) == artefacts.first
    assert not desk.redis.exists(desk.keys.live(artefacts.foreign), desk.keys.history(artefacts.foreign))
    assert admin.promote(artefacts.second, "same vocabulary").before == artefacts.first


def test_an_active_model_whose_artefact_is_gone_stands_in_nobodys_way(desk: Stream, artefacts: Artefacts):
    desk.redis.set(desk.keys.model, "20200101T000000Z-00000000")
    assert ThresholdsAdmin(desk.settings, "test").promote(artefacts.first, "again").model == artefacts.first
