"""Rows of the embedding for tokens that a tokenizer has gained (--add_tokens).

A new row is the mean of the rows of the pieces that the word was before, in the input embedding and
in the output layer. An adapter trains and keeps these rows alone (PEFT's trainable_token_indices),
so that its folder stays small and says all about them; wherever it is loaded the base grows to it.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.utils.other import TrainableTokensWrapper
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from medtune.arguments import AdapterArguments, ModelArguments
from medtune.common.errors import CheckpointError, ConfigError
from medtune.common.log import logger
from medtune.models.loading import load_tokenizer
from medtune.models.strict import is_divided
from medtune.models.weight_files import ADAPTER_CONFIG, TRAINED_TOKENS, read_if_there

# Whoever reads a head's weight asks for its bias too, and the wrapper has an answer for the weight
# only. It computes without a bias: train_new_rows refuses a head that has one.
TrainableTokensWrapper.bias = None


def num_rows_of(model: PreTrainedModel | PeftModel) -> int:
    """Return how many tokens a model has embedding rows for, whatever an adapter wraps them in."""
    return int(model.config.get_text_config().vocab_size)


def num_rows_needed(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many rows a tokenizer needs: its largest id and one, whatever it leaves out."""
    return max(tokenizer.get_vocab().values()) + 1


def check_sizes(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    """Raise CheckpointError if the tokenizer has tokens that the model `name` has no row for."""
    num_rows, needed = num_rows_of(model), num_rows_needed(tokenizer)
    if needed > num_rows:
        raise CheckpointError(
            f"{name}: expected at most {num_rows:,} tokens (the model's embedding rows), found a "
            f"tokenizer with {needed:,} ({tokenizer.name_or_path}); give the one that belongs to "
            "the model. New tokens are added by --add_tokens in training, and by --resize_emb "
            "in a merge."
        )


def fit_vocabulary(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    model_arguments: ModelArguments,
    arguments: AdapterArguments,
) -> list[int]:
    """Give a model that is to be trained a row for each token; return the ids that are new to it.

    Raises ConfigError (an adapter that is continued cannot gain more) and CheckpointError (a
    tokenizer of another model).
    """
    new_ids: list[int] = []
    if arguments.peft_path:
        grow_to_adapter(model, arguments.peft_path)
    if arguments.add_tokens:
        before = load_tokenizer(model_arguments, arguments.peft_path)
        new_ids = add_rows(model, tokenizer, before)
    if new_ids and arguments.peft_path:
        raise ConfigError(
            f"--add_tokens and --peft_path {arguments.peft_path} clash: {len(new_ids):,} tokens "
            "are new to that adapter, which keeps the rows that it was begun with. Merge it into "
            "its base and add them to the merged model."
        )
    check_sizes(model, tokenizer, model_arguments.model_name_or_path)
    return new_ids


def add_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, before: PreTrainedTokenizerBase
) -> list[int]:
    """Give the model rows for what `tokenizer` has and `before` has not; return the new ids.

    Rows are set for all of them, also where a padded embedding had room; none is ever removed.
    Raises ConfigError under DeepSpeed ZeRO-3.
    """
    old, new = before.get_vocab(), tokenizer.get_vocab()
    words = {new_id: word for word, new_id in new.items() if word not in old}
    if not words:
        return []
    pieces = {i: before(word, add_special_tokens=False)["input_ids"] for i, word in words.items()}
    grow(model, num_rows_needed(tokenizer))
    for weight in embedding_weights(model):
        set_rows(weight, {i: weight[ids].float().mean(0) for i, ids in pieces.items()})
    num_pieces = sum(map(len, pieces.values()))
    logger.info(
        "embedding: %s rows, of which %s are new, each the mean of its pieces (%.1f a token)",
        f"{num_rows_of(model):,}", f"{len(words):,}", num_pieces / len(words),
    )  # fmt: skip
    return sorted(words)


def grow(model: PreTrainedModel, num_rows: int) -> None:
    """Make the embedding and the output layer at least so long; what is added is zero."""
    if is_divided(model):
        raise ConfigError(
            "--add_tokens: expected whole weights, found them divided by DeepSpeed ZeRO-3; use "
            "ZeRO-2 (configs/deepspeed/zero2.json), or a base that was grown by a merge before."
        )
    before = num_rows_of(model)
    if num_rows <= before:
        return
    model.resize_token_embeddings(num_rows, mean_resizing=False)
    for weight in embedding_weights(model):
        weight.data[before:] = 0


def embedding_weights(model: PreTrainedModel) -> list[torch.Tensor]:
    """Return the matrices with a row for each token: two, or one if they are tied."""
    weights = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    return weights[:1] if weights[0] is weights[1] else weights


@torch.no_grad()
def set_rows(weight: torch.Tensor, rows: dict[int, torch.Tensor]) -> None:
    """Write rows, of any type, into a matrix, in its own type."""
    for index, row in rows.items():
        weight[index] = row.to(weight)


def train_new_rows(config: PeftConfig, model: PreTrainedModel, ids: list[int]) -> None:
    """Have an adapter that is to be made train and keep the rows of these ids.

    Raises ConfigError where a row would be trained twice, and for a head that PEFT cannot take.
    """
    names = embedding_names(model)
    named: set[str] = {*(config.modules_to_save or []), *listed(config.target_modules)}
    if twice := sorted(name for name in names if name in named):
        raise ConfigError(
            f"--add_tokens: expected {' and '.join(names)} neither in --modules_to_save nor in "
            f"--target_modules, found {', '.join(twice)}: the rows of the new tokens are trained "
            "by themselves. Take the name out."
        )
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise ConfigError(
            f"--add_tokens: expected an output layer without a bias, found one with a bias in a "
            f"{model.config.model_type} model, of which PEFT cannot train single rows. Use "
            "--use_peft False."
        )
    setattr(config, TRAINED_TOKENS, dict.fromkeys(names, ids))


def listed(names: Any) -> list[str]:
    """Return module names as a list; a single word stands for a rule, not for a name."""
    return [] if names is None or isinstance(names, str) else list(names)


def embedding_names(model: PreTrainedModel) -> list[str]:
    """Return the last names of the embedding and, if it is not tied to it, of the output layer.

    Example: ["embed_tokens", "lm_head"]; PEFT finds tied ones by itself.
    """
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    if len(embedding_weights(model)) == 1:
        layers.pop()
    names = {id(module): name for name, module in model.named_modules()}
    return [names[id(layer)].rpartition(".")[2] for layer in layers]


def trained_ids(folder: str) -> list[int]:
    """Return the ids whose rows an adapter brings; empty for one that grew nothing."""
    found = read_if_there(Path(folder) / ADAPTER_CONFIG).get(TRAINED_TOKENS) or []
    ids = [i for part in found.values() for i in part] if isinstance(found, dict) else found
    return sorted(set(ids))


def grow_to_adapter(model: PreTrainedModel, folder: str) -> None:
    """Give a base the rows that an adapter's tokens need; their values come with the adapter."""
    if ids := trained_ids(folder):
        grow(model, ids[-1] + 1)


@torch.no_grad()
def copy_rows_to_base(model: PeftModel) -> None:
    """Put a loaded adapter's rows into the base too.

    Without the adapter, and in the copy of it that is DPO's reference, the tokens are then what
    they were when it was loaded; TRL copies all parts of an adapter to the reference but these.
    """
    for wrapper in model.modules():
        if isinstance(wrapper, TrainableTokensWrapper):
            layer = wrapper.token_adapter
            for name, rows in layer.trainable_tokens_delta.items():
                layer.get_base_layer().weight[layer.token_indices[name]] = rows.to(
                    layer.get_base_layer().weight
                )
                layer.trainable_tokens_original[name] = rows.detach().clone()


def keep_new_rows_only(model: Any) -> None:
    """Have an adapter saved with the rows of its own tokens, not with the whole embedding.

    PEFT saves all of a matrix that is longer than that of the base's config.json.
    """
    if isinstance(model, PeftModel) and getattr(model.active_peft_config, TRAINED_TOKENS, None):
        model.save_pretrained = partial(
            PeftModel.save_pretrained, model, save_embedding_layers=False
        )
