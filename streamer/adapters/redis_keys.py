"""The names of the Redis keys (contract section 4), spelled in one place for the workers and the tools."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Every key of one deployment; `prefix` ends in a colon by convention."""

    prefix: str

    @property
    def model(self) -> str:
        return f"{self.prefix}model"

    @property
    def resume(self) -> str:
        """Changes each time an operator lets paused workers go on."""
        return f"{self.prefix}resume"

    @property
    def redecide(self) -> str:
        """The stream of re-decide runs."""
        return f"{self.prefix}redecide"

    def live(self, model: str) -> str:
        return f"{self.prefix}thresholds:{model}"

    def tables(self, model: str) -> str:
        return f"{self.live(model)}:tables"

    def history(self, model: str) -> str:
        return f"{self.live(model)}:history"

    def worker(self, worker: str) -> str:
        return f"{self.prefix}workers:{worker}"

    def trial(self, worker: str) -> str:
        """Of nobody: where a worker tries its rights."""
        return f"{self.prefix}trial:{worker}"

    @property
    def workers(self) -> str:
        """Pattern of all heartbeats."""
        return f"{self.prefix}workers:*"

    def watched(self) -> tuple[str, str]:
        """Prefixes whose change a worker must look at."""
        return self.model, f"{self.prefix}thresholds:"
