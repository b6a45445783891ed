"""The search for a better configuration: Optuna proposes, folds by artist judge, a storage remembers.

Read `run` top to bottom. Any number of processes may run it on one storage; each goes on until the number of trials
asked for is settled between them. Knows data and networks; knows nothing of folders, reports or terminals.

Notable choices:
- the objective comes from the training data alone: every track is scored by a network that saw none of its artist's
  tracks. `ours` maximises the weighted F1 of those scores with thresholds fitted on other folds; `study` minimises
  their BCE, as the study minimised its validation loss;
- two folds: half the price of the trainer's four, and every track counts;
- all trials share one seed, so that they differ by their configuration; what is proposed depends on the seed and the
  trial's place, so that a search that was interrupted proposes what it would have proposed;
- a trial is pruned by the held-out loss of the first fold, after each epoch.
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from model import metrics
from model import search_life as life
from model.candidates import candidate, to_scores, upstream_candidates
from model.config import CONFIGS, TrainingConfig
from model.dataset import Dataset
from model.errors import ModelError
from model.fit import Fit, Progress, fit, predict
from model.folds import artist_folds
from model.initialise import fit_statistics, new_network
from model.network import Rescorer
from model.search_space import Space
from model.training import FEWEST_TRACKS

FOLDS = 2
RANDOM_TRIALS = 10  # before the sampler learns from what was seen
UNPRUNED_TRIALS, UNPRUNED_EPOCHS = 5, 3  # an early loss says more of the learning rate than of the end
KEPT_PERCENT = 75.0  # of trials at any epoch; the median would soon prune what differs from the best by noise
HOPELESS_FAILURES = 3  # with nothing else: the search itself is wrong, not its trials
POLL_S = 0.5  # while other processes finish the last trials
SEED_STRIDE = 10_007
ABOUT = "about"  # the study's attribute that says what its trials have in common
UPSTREAM = "upstream"  # and the one that holds the objective without a network
WEIGHTS = "weights"  # a trial's attribute: how many its network has
DIVERGED, ERROR = "diverged", "error: "
WHY_SHOWN = 300  # characters


@dataclass(frozen=True)
class Search:
    """One study on one data set."""

    study: optuna.Study
    storage: BaseStorage
    space: Space
    dataset: Dataset
    seed: int


def open_search(storage: BaseStorage, name: str, space: Space, dataset: Dataset, seed: int) -> Search:
    """A new search, or the one of that name as far as it has come.

    Raises:
        ModelError: for data that nothing can be learnt from, or a study that was begun with something else.
    """
    labels = dataset.need_labels()
    if len(dataset) < FEWEST_TRACKS or not labels.any():
        raise ModelError(f"A search needs at least {FEWEST_TRACKS} tracks and a label among them.")
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        direction="maximize" if space.maximises else "minimize",
        sampler=PlacedSampler(space, seed),
        pruner=optuna.pruners.PercentilePruner(
            KEPT_PERCENT, n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=UNPRUNED_EPOCHS + 1
        ),
    )
    folds = artist_folds(dataset.artists, len(dataset), FOLDS, seed)
    about = {
        "space": space.name,
        "data": dataset.fingerprint(),
        "seed": seed,
        "ranges": space.to_json(),
        "folds": hashlib.sha256(folds.tobytes()).hexdigest(),
    }
    known = study.user_attrs.get(ABOUT)
    if known is None:
        study.set_user_attr(UPSTREAM, _upstream(space, dataset, seed))
        study.set_user_attr(ABOUT, about)
    elif known != about:
        other = next(what for what in about if known.get(what) != about[what])
        raise ModelError(f"The study '{name}' was begun with other {other}: give this search another name (--study).")
    return Search(study, storage, space, dataset, seed)


def _upstream(space: Space, dataset: Dataset, seed: int) -> float:
    """What the same objective says of the upstream without a network: nothing worse is worth training."""
    candidates = upstream_candidates(dataset, CONFIGS[space.base], seed)
    if space.maximises:
        return max(one.weighted_f1 for one in candidates)
    return min(metrics.bce(dataset.need_labels(), one.expected) for one in candidates)


class PlacedSampler(BaseSampler):
    """TPE, seeded anew for each trial by its place in the study; the first trial is the space's base.

    A sampler that kept its random state would propose the same points again after every restart.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._tpe, self._place = TPESampler(), 0

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._place = life.place(trial, study.get_trials(deepcopy=False))
        seed = (self._seed * SEED_STRIDE + self._place) % 2**32
        self._tpe = TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed)
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {**self._space.ranges} if self._place == 0 else self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._place == 0:
            return self._space.base_params()
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)


def run(
    search: Search,
    trials: int,
    tell: Progress | None = None,
    deadline: float = math.inf,
    ended: Callable[[], None] = lambda: None,
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Run trials until `trials` of the study are settled, by this process and any other.

    None is started after `deadline` (of `time.monotonic`). `ended()` follows each trial; where `wanted()` turns
    false the current trial is queued again and the search stops.

    Raises:
        ModelError: where nothing but failures comes out.
    """
    told = tell or (lambda what, done, total: None)
    while time.monotonic() < deadline and wanted():
        life.bury_the_dead(search.study, search.storage)
        known = search.study.get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in known)
        if waiting or len(life.first_attempts(known)) < trials:
            _run_one(search, trials, told, wanted)
            ended()
            _give_up_if_hopeless(search)
        elif running := life.pending(known):
            told(f"waiting for trial {running[0].number}, of another process", *settled(known, trials))
            time.sleep(POLL_S)
        else:
            return


def settled(known: list[FrozenTrial], trials: int) -> tuple[int, int]:
    """How many trials have come to an end, and of how many."""
    started = len(life.first_attempts(known))
    return started - len(life.pending(known)), max(trials, started)


def best(study: optuna.Study) -> FrozenTrial | None:
    """The winner, or None where no trial was completed."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial if complete else None


def _run_one(search: Search, trials: int, told: Progress, wanted: Callable[[], bool]) -> None:
    study, storage = search.study, search.storage
    trial = study.ask()
    known = study.get_trials(deepcopy=False)
    mine = known[trial.number]
    if not life.is_retry(mine) and life.place(mine, known) >= trials:  # two processes started the last one at once
        trial.set_user_attr(life.WHY, life.SURPLUS)
        study.tell(trial, state=TrialState.FAIL)
        return
    # A trial that is finished already was taken for dead, and another process has it: nothing to tell.
    try:
        with life.signs_of_life(storage, trial._trial_id):
            _suggest(trial, search.space)
            value = _evaluate(search, trial, lambda what: told(what, *settled(known, trials)), wanted)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
    except KeyboardInterrupt:
        life.give_back(storage, trial._trial_id)
        raise
    except UpdateFinishedTrialError:
        return
    except Exception as error:  # one trial's trouble, such as memory, is not the search's
        trial.set_user_attr(life.WHY, f"{ERROR}{type(error).__name__}: {error}"[:WHY_SHOWN])
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
    else:
        study.tell(trial, value, skip_if_finished=True)


def _suggest(trial: Trial, space: Space) -> None:
    """Give the trial its parameters: those it was queued with, or new ones."""
    for name, item in space.ranges.items():
        if isinstance(item, IntDistribution):
            trial.suggest_int(name, item.low, item.high, step=item.step, log=item.log)
        else:
            trial.suggest_float(name, item.low, item.high, step=item.step, log=item.log)


def _evaluate(search: Search, trial: Trial, told: Callable[[str], None], wanted: Callable[[], bool]) -> float:
    """The objective of one configuration."""
    dataset, config = search.dataset, search.space.configure(trial.params)
    folds = artist_folds(dataset.artists, len(dataset), FOLDS, search.seed)
    scores = np.empty(dataset.need_labels().shape, dtype=np.float16)
    losses = []
    for fold in range(folds.max() + 1):
        epochs = 0

        def tick(loss: float, fold: int = fold) -> None:
            nonlocal epochs
            epochs += 1
            told(f"trial {trial.number}, fold {fold + 1} of {folds.max() + 1}, epoch {epochs}, loss {loss:.4f}")
            if not wanted():
                raise KeyboardInterrupt
            _prune(trial, search.space, fold, epochs, loss)

        network, result = _fit_fold(search, config, folds, fold, tick)
        here = folds == fold
        scores[here] = to_scores(predict(network, _logits(network, dataset.probabilities[here])))
        losses.append(result.held_losses[result.best_epoch - 1])
        trial.set_user_attr(WEIGHTS, sum(parameter.numel() for parameter in network.parameters()))
    if not search.space.maximises:
        return float(np.average(losses, weights=np.bincount(folds)))
    return candidate("tried", scores, scores, dataset, config, search.seed).weighted_f1


def _prune(trial: Trial, space: Space, fold: int, epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        trial.set_user_attr(life.WHY, DIVERGED)
        raise optuna.TrialPruned
    if fold == 0:
        if epoch <= max(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values, default=0):
            return  # an attempt that was interrupted has reported it, and was not pruned then
        # A pruner takes what is reported for the objective's kind: where more is better a loss turns its sign.
        trial.report(-loss if space.maximises else loss, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned


def _fit_fold(
    search: Search, config: TrainingConfig, folds: NDArray[np.int64], fold: int, tick: Callable[[float], None]
) -> tuple[Rescorer, Fit]:
    """A network that learns from all folds but one, and stops early by that one."""
    dataset = search.dataset
    rest, here = dataset.take(np.flatnonzero(folds != fold)), dataset.take(np.flatnonzero(folds == fold))
    network = new_network(dataset.vocabulary, config.network, search.seed)
    logits = _logits(network, rest.probabilities)
    fit_statistics(network, logits, rest.need_labels())
    held = _logits(network, here.probabilities), torch.from_numpy(here.need_labels()).float()
    labels = torch.from_numpy(rest.need_labels()).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(search.seed)  # dropout draws from the global state
        generator = torch.Generator().manual_seed(search.seed)
        return network, fit(network, logits, labels, config, generator, tick, held=held)


def _logits(network: Rescorer, probabilities: NDArray[np.float32]) -> torch.Tensor:
    return network.features.logits(torch.from_numpy(probabilities))


def _give_up_if_hopeless(search: Search) -> None:
    known = search.study.get_trials(deepcopy=False)
    errors = [why for trial in known if (why := trial.user_attrs.get(life.WHY, "")).startswith(ERROR)]
    useful = any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in known)
    if not useful and len(errors) >= HOPELESS_FAILURES:
        raise ModelError(f"The first {len(errors)} trials failed, the last with {errors[-1].removeprefix(ERROR)}")
