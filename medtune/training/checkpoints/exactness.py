"""What a continued run needs to be the uninterrupted one, and what may change meanwhile."""

from operator import attrgetter
from typing import Any

from accelerate.data_loader import SkipBatchSampler
from transformers import TrainingArguments

from medtune.common.errors import ConfigError

# Options of the trainers that a run cannot be continued with to the last bit.
NOT_RESUMABLE: list[tuple[str, Any, str]] = [
    ("train_sampling_strategy", "group_by_length", "sorted rows are sorted otherwise next time"),
    ("ignore_data_skip", True, "rows that were trained on would come again"),
    ("save_only_model", True, "without the optimizer's state nothing can be continued"),
    ("sync_ref_model", True, "the changed reference is in no checkpoint"),
    ("auto_find_batch_size", True, "it begins again at step 0 on weights that are trained"),
    ("enable_jit_checkpoint", True, "it saves in the middle of a step; medtune handles signals"),
    ("load_best_model_at_end", True, "the results are those of the last step; see checkpoint-*"),
    ("save_strategy", "best", "a repeated evaluation would not know which one was the best"),
    ("lr_scheduler_type", "reduce_lr_on_plateau", "it follows evaluations, which are repeated"),
    ("lr_scheduler_type", "greedy", "it follows evaluations, which are repeated"),
    ("push_to_hub", True, "nothing is sent anywhere; upload a finished folder by hand"),
]

# Options that a running optimizer can take over, for --allow_change.
CHANGEABLE = {
    "learning_rate", "weight_decay", "max_grad_norm", "num_train_epochs", "max_steps",
    "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps",
}  # fmt: skip


def count_skipped_rows() -> None:
    """Let the batches after skipped ones know how many rows they have over all processes.

    accelerate does not pass that on, so that the logs of a continued epoch's last step would count
    the rows twice that fill it up.
    """
    for name in ("batch_size", "num_processes", "split_batches"):
        setattr(SkipBatchSampler, name, property(attrgetter(f"batch_sampler.{name}")))


def check_resumable(training: TrainingArguments) -> None:
    """Raise ConfigError for an option with which a run could not be continued to the last bit."""
    for name, value, reason in NOT_RESUMABLE:
        if getattr(training, name, None) == value:
            raise ConfigError(f"--{name} {value}: expected it left out: {reason}.")
    if not training.accelerator_config.use_seedable_sampler:
        raise ConfigError(
            "--accelerator_config: expected use_seedable_sampler left out, found it false: the "
            "order of the rows would be another one next time."
        )
    if training.resume_from_checkpoint is not None:
        raise ConfigError(
            "--resume_from_checkpoint: expected --resume with auto, never or a checkpoint folder."
        )


def check_changeable(names: list[str]) -> None:
    """Raise ConfigError for a name of --allow_change that no running optimizer can take over."""
    for name in names:
        if name not in CHANGEABLE:
            raise ConfigError(
                f"--allow_change {name}: expected one of {', '.join(sorted(CHANGEABLE))}; with "
                "anything else changed it is another run: name another --output_dir (and "
                "--peft_path to begin with this run's adapter)."
            )


def options_of_groups(trainer: Any) -> list[tuple[float, float]]:
    """Return base rate and weight decay of each group of an optimizer that was just made."""
    rate = trainer.args.learning_rate
    return [
        (group.get("initial_lr", rate), group.get("weight_decay", 0.0))
        for group in trainer.optimizer.param_groups
    ]


def apply_changes(trainer: Any, options: list[tuple[float, float]]) -> None:
    """Give the options of now to an optimizer and a schedule that a checkpoint has brought back.

    The schedule's form and length are those of now already; its base rates are the checkpoint's.
    options: of the optimizer's groups, as they were before the checkpoint was loaded.
    """
    scheduler = trainer.lr_scheduler
    scheduler.base_lrs = [rate for rate, _ in options]
    groups = trainer.optimizer.param_groups
    for group, factor, (rate, decay) in zip(groups, factors_of(scheduler), options, strict=True):
        group["initial_lr"] = rate
        group["lr"] = rate * factor
        group["weight_decay"] = decay
    scheduler._last_lr = [group["lr"] for group in trainer.optimizer.param_groups]


def factors_of(scheduler: Any) -> list[float]:
    """Return what each group's base rate is multiplied by at the present step."""
    return [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
