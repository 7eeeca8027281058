"""What is asked and how: the model behind lm-eval's interface, and the benchmarks' options."""

from typing import Any

import lm_eval.api.model
from accelerate import PartialState
from transformers import PreTrainedTokenizerBase

from medtune.arguments import HF, EvaluationArguments, ModelArguments
from medtune.common.errors import ConfigError
from medtune.data.rendering import ChatRenderer
from medtune.evaluation.asking.judge import Judge
from medtune.evaluation.asking.language_model import END_OF_TURN, ChatModel, Limits
from medtune.evaluation.tasks.base import TaskOptions
from medtune.models.adapters import count_parameters, load_adapter
from medtune.models.families import family_of, stop_token_ids
from medtune.models.loading import load_model, resolve_model
from medtune.models.quantised_bases import warn_of_other_bits
from medtune.models.token_growth import check_sizes

CPU_TOKENS, GPU_TOKENS = 1024, 8192  # of a batch: more of them are slower on a CPU (measured)
LONGEST = 8192  # tokens of context where the model allows more, unless --max_length says so


def load_language_model(
    model_arguments: ModelArguments,
    arguments: EvaluationArguments,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[lm_eval.api.model.LM, dict[str, Any]]:
    """Return the model as lm-eval asks it, and what results.json says of it."""
    about: dict[str, Any] = {
        "path": model_arguments.model_name_or_path,
        "adapter": arguments.adapter,
        "num_parameters": None,
    }
    if arguments.backend != HF:
        if model_arguments.quantization_bit:
            raise ConfigError(
                f"--quantization_bit and --backend {arguments.backend} clash: its weights are "
                "loaded by itself; see --backend_args."
            )
        return load_backend(model_arguments, arguments), about
    model: Any = load_model(model_arguments)
    if arguments.adapter:
        warn_of_other_bits(model_arguments, arguments.adapter)
        model = load_adapter(model, arguments.adapter)
    check_sizes(model, tokenizer, model_arguments.model_name_or_path)
    model = model.eval()
    if model.device != PartialState().device:  # where quantised weights are already
        model = model.to(PartialState().device)
    about["num_parameters"] = count_parameters(model)[1]
    renderer = None
    if arguments.apply_chat_template:
        renderer = ChatRenderer(tokenizer, family_of(tokenizer).turn_end)
        model.generation_config.eos_token_id = stop_token_ids(tokenizer, set())
    on_gpu = model.device.type == "cuda"
    tokens = arguments.tokens_per_batch or (GPU_TOKENS if on_gpu else CPU_TOKENS)
    longest = getattr(model.config, "max_position_embeddings", LONGEST)
    max_length = arguments.max_length or min(longest, LONGEST)
    if max_length > longest:
        raise ConfigError(
            f"--max_length: expected at most the model's {longest:,} tokens, found {max_length:,}."
        )
    if arguments.max_new_tokens >= max_length:
        raise ConfigError(
            f"--max_new_tokens {arguments.max_new_tokens}: expected less than the {max_length:,} "
            "tokens that prompt and reply have together; give a smaller number."
        )
    stride = arguments.stride
    if stride is not None and stride > max_length:
        raise ConfigError(f"--stride: expected at most --max_length {max_length}, found {stride}.")
    limits = Limits(max_length, tokens, stride or max_length, arguments.seed)
    return ChatModel(model, tokenizer, renderer, limits), about


def load_backend(
    model_arguments: ModelArguments, arguments: EvaluationArguments
) -> lm_eval.api.model.LM:
    """Return one of lm-eval's own models. Raises ConfigError if what it needs is missing."""
    from lm_eval.api.registry import get_model

    words = [f"pretrained={resolve_model(model_arguments.model_name_or_path)}", "seed=0"]
    words += [arguments.backend_args] if arguments.backend_args else []
    try:
        return get_model(arguments.backend).create_from_arg_string(",".join(words))
    except (ImportError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"--backend {arguments.backend}: expected its package, found none ({error}); install "
            "it, or leave the option out."
        ) from error


def find_judge(arguments: EvaluationArguments) -> Judge | None:
    """Return who marks replies, if anybody. Raises ConfigError."""
    if not arguments.judge_url:
        return None
    return Judge(arguments.judge_url, str(arguments.judge_model))


def task_options(
    arguments: EvaluationArguments,
    model: lm_eval.api.model.LM,
    tokenizer: PreTrainedTokenizerBase,
    judge: Judge | None = None,
) -> TaskOptions:
    """Return how the benchmarks are asked; judge: who marks the replies of CMB-Clin."""
    generation: dict[str, Any] = {"max_gen_toks": arguments.max_new_tokens}
    if arguments.do_sample:
        generation |= {
            "do_sample": True, "temperature": arguments.temperature, "top_p": arguments.top_p,
        }  # fmt: skip
    if arguments.repetition_penalty is not None:
        generation["repetition_penalty"] = arguments.repetition_penalty
    is_ours = isinstance(model, ChatModel)
    return TaskOptions(
        is_chat=arguments.apply_chat_template,
        num_fewshot=arguments.num_fewshot,
        seed=arguments.seed,
        chain_of_thought=arguments.chain_of_thought,
        generation=generation,
        end_of_turn=END_OF_TURN if is_ours and arguments.apply_chat_template else "",
        count_tokens=lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]),
        grade=judge,
    )
