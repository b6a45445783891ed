"""What every page works with: made once, handed to each view."""

from dataclasses import dataclass, field

from model.registry import Registry
from ops.console.access import Session
from ops.console.feed import Feed
from ops.console.render import Renderer
from ops.console.retained import Retained
from ops.thresholds_admin import ThresholdsAdmin
from streamer.settings import Settings


@dataclass
class Desk:
    """The settings, what is known now, and the way to what is written."""

    settings: Settings
    feed: Feed
    renderer: Renderer
    registry: Registry
    retained: Retained
    _admins: dict[str, ThresholdsAdmin] = field(default_factory=dict)

    def admin(self, session: Session) -> ThresholdsAdmin:
        """Writes in this person's name."""
        if session.name not in self._admins:
            self._admins[session.name] = ThresholdsAdmin(self.settings, who=session.name)
        return self._admins[session.name]
