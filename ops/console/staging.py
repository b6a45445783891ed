"""Edits of thresholds that belong together: staged one by one, applied as one change, or given up.

A staged change remembers the table that its author saw when the first edit was staged. It is applied only if that is
still the live one; else its author looks at what has changed, and takes the edits over or drops them.
"""

from dataclasses import dataclass, field

from ops.errors import OpsError
from ops.thresholds_admin import Live, ThresholdsAdmin, Written
from ops.thresholds_history import roll_back, table_named
from streamer.core.thresholds import threshold_text


@dataclass
class Staged:
    """One change in the making."""

    base: Live
    values: dict[str, str] = field(default_factory=dict)  # tag -> canonical text
    back_to: str = ""  # the version that these edits lead back to, as long as nobody has touched them
    why: str = ""  # proposed

    def put(self, tag: str, value: str) -> None:
        """Stage one edit; one that changes nothing is taken out.

        Raises:
            BadThreshold: no number in [0, 1] and not off.
        """
        text = threshold_text(tag, value)
        self.back_to = ""
        if text == self.base.table.as_hash()[tag]:
            self.values.pop(tag, None)
        else:
            self.values[tag] = text

    def take_out(self, tag: str) -> None:
        """Drop one edit."""
        self.back_to = ""
        self.values.pop(tag, None)

    def is_stale(self, live: Live) -> bool:
        """Whether somebody has changed the table since."""
        return (live.model, live.table.version) != (self.base.model, self.base.table.version)

    def onto(self, live: Live) -> "Staged":
        """The same edits on the table of now; what that says already is dropped.

        Raises:
            OpsError: the model has another vocabulary.
        """
        texts = live.table.as_hash()
        unknown = [tag for tag in self.values if tag not in texts]
        if unknown:
            raise OpsError(f"{live.model} has no tag {unknown[0]!r}: drop the edits and begin again.")
        return Staged(live, {tag: text for tag, text in self.values.items() if texts[tag] != text}, why=self.why)

    def apply(self, admin: ThresholdsAdmin, why: str) -> Written:
        """Write all of it, or nothing.

        Raises:
            OpsError: no reason, nothing staged, the table has changed since, or Redis is away.
        """
        if not why.strip():
            raise OpsError("a change takes a reason: it is what the history will say.")
        if not self.values:
            raise OpsError("nothing is staged.")
        if self.back_to:
            return roll_back(admin, self.base, self.back_to, why.strip())
        return admin.change(self.base, self.values, why.strip())


def way_back(admin: ThresholdsAdmin, live: Live, version: str, why: str) -> Staged:
    """The edits that lead from the live table to an earlier version's.

    Raises:
        OpsError: there is no such version, it is the live one, or Redis is away.
    """
    wanted, now = table_named(admin, live, version).as_hash(), live.table.as_hash()
    values = {tag: text for tag, text in wanted.items() if now[tag] != text}
    if not values:
        raise OpsError(f"the live table is that of {version} already.")
    return Staged(live, values, back_to=version, why=why)
