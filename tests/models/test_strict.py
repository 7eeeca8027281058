"""Damaged files of a model or an adapter are refused by name, and nothing in them is ever run."""

import ast
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GlmConfig, GlmForCausalLM

import evaluation
from medtune.arguments import MergeArguments, ModelArguments
from medtune.common.errors import CheckpointError
from medtune.models import strict
from medtune.models.adapters import load_adapter
from medtune.models.loading import load_model, load_tokenizer
from medtune.models.merging import merge_adapters
from medtune.models.weight_files import check_adapter_folder
from tests.conftest import REPO

WEIGHTS, ADAPTER, INDEX = (
    "model.safetensors",
    "adapter_model.safetensors",
    "model.safetensors.index.json",
)
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(small_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_model_folder, tmp_path / "model"))


@pytest.fixture
def sharded(small_model_folder: Path, tmp_path: Path) -> Path:
    """The small model in shards of at most 200 kB."""
    target = tmp_path / "sharded"
    model = AutoModelForCausalLM.from_pretrained(small_model_folder)
    model.save_pretrained(target, max_shard_size="200KB")
    assert len(list(target.glob("*.safetensors"))) > 2
    return target


@pytest.fixture(scope="session")
def sound_adapter(small_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("adapter")
    model = AutoModelForCausalLM.from_pretrained(small_model_folder)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
    get_peft_model(model, config).save_pretrained(target)
    return target


@pytest.fixture
def adapter(sound_adapter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound_adapter, tmp_path / "adapter"))


def load(folder: Path) -> Any:
    return load_model(ModelArguments(str(folder)))


def refusal(action: Callable[[], object]) -> str:
    """The message of the CheckpointError that `action` ends with, on one line."""
    with pytest.raises(CheckpointError) as error:
        action()
    assert error.value.exit_code == 2
    return " ".join(str(error.value).split())


def edit(path: Path, change: Callable[[Tensors, str], None]) -> str:
    """Change the tensors of a file by the name of one that is not square, and return that name."""
    tensors = load_file(path)
    name = next(n for n, t in tensors.items() if t.dim() == 2 and t.size(0) != t.size(1))
    change(tensors, name)
    save_file(tensors, path, metadata={"format": "pt"})
    return name


def drop(tensors: Tensors, name: str) -> None:
    del tensors[name]


def rename(tensors: Tensors, name: str) -> None:
    tensors[f"{name}_old"] = tensors.pop(name)


def add(tensors: Tensors, name: str) -> None:
    tensors[f"{name}_old"] = torch.zeros(2)


def transpose(tensors: Tensors, name: str) -> None:
    tensors[name] = tensors[name].T.contiguous()


def put_nan(tensors: Tensors, name: str) -> None:
    tensors[name][-1, -1] = float("nan")


def put_inf(tensors: Tensors, name: str) -> None:
    tensors[name][0, 0] = float("-inf")


# what is done to the file, and what the refusals of a model and of an adapter say of it
NOT_FINITE = "NaN or infinity in 1 tensors (first: {name})"
DAMAGES = [
    (
        drop,
        "1 missing (first: ['{name}'",
        "{name}: the model needs ({shape}), the",
    ),
    (rename, "1 too many (first: ['{name}_old'", "{name}: the model needs ({shape}), the"),
    (add, "1 too many (first: ['{name}_old'", "{name}_old: the model needs no such tensor"),
    (transpose, "1 of another shape (first: ['{name}: ({turned}) in the file", "has ({turned})"),
    (put_nan, NOT_FINITE, NOT_FINITE),
    (put_inf, NOT_FINITE, NOT_FINITE),
]
DAMAGE_NAMES = [damage.__name__ for damage, *_ in DAMAGES]
CUTS = {"half": 0.5, "all but a byte": 0.999999, "the length of its header": 0.00001, "all": 0.0}


def expected_words(template: str, name: str, shape: torch.Size) -> str:
    rows, columns = shape
    return template.format(name=name, shape=f"{rows}, {columns}", turned=f"{columns}, {rows}")


@pytest.mark.parametrize(("damage", "words", "_"), DAMAGES, ids=DAMAGE_NAMES)
def test_damaged_model_is_refused_by_tensor(
    folder: Path, damage: Callable[[Tensors, str], None], words: str, _: str
) -> None:
    before = load_file(folder / WEIGHTS)
    name = edit(folder / WEIGHTS, damage)

    message = refusal(lambda: load(folder))

    assert str(folder) in message
    assert expected_words(words, name, before[name].shape) in message


@pytest.mark.parametrize(("damage", "_", "words"), DAMAGES, ids=DAMAGE_NAMES)
def test_damaged_adapter_is_refused_by_tensor(
    folder: Path, adapter: Path, damage: Callable[[Tensors, str], None], _: str, words: str
) -> None:
    before = load_file(adapter / ADAPTER)
    name = edit(adapter / ADAPTER, damage)

    message = refusal(lambda: load_adapter(load(folder), str(adapter)))

    assert str(adapter) in message
    assert expected_words(words, name, before[name].shape) in message


@pytest.mark.parametrize("share", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("kind", ("model", "adapter", "shard"))
def test_cut_file_is_refused_by_name(
    folder: Path, sharded: Path, adapter: Path, kind: str, share: float
) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    path = {"model": folder / WEIGHTS, "adapter": adapter / ADAPTER, "shard": shard}[kind]
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    size = path.stat().st_size

    message = refusal(
        lambda: load_adapter(load(folder), str(adapter)) if kind == "adapter" else load(path.parent)
    )

    assert message.startswith(f"{path}: expected a whole safetensors file, found {size:,} bytes")


@pytest.mark.parametrize("content", ["", "{", "[1]", "\udcff"])
def test_damaged_configuration_is_refused_by_name(
    folder: Path, adapter: Path, content: str
) -> None:
    for path in (folder / "config.json", adapter / "adapter_config.json"):
        path.write_bytes(content.encode("utf-8", "surrogateescape"))

    assert str(folder / "config.json") in refusal(lambda: load(folder))
    assert str(folder / "config.json") in refusal(
        lambda: load_tokenizer(ModelArguments(str(folder)))
    )
    message = refusal(lambda: check_adapter_folder(adapter))
    assert str(adapter / "adapter_config.json") in message


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"added_tokens": [], "model": {}}'])
def test_damaged_tokenizer_is_refused(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)

    message = refusal(lambda: load_tokenizer(ModelArguments(str(folder))))

    assert message.startswith(f"{folder}: expected a tokenizer that loads")


def test_half_of_an_adapter_leaves_nothing_of_a_merge(
    folder: Path, adapter: Path, tmp_path: Path
) -> None:
    tensors = load_file(adapter / ADAPTER)
    half = dict(sorted(tensors.items())[::2])
    save_file(half, adapter / ADAPTER)

    arguments = MergeArguments(str(folder), [str(adapter)], str(tmp_path / "merged"))
    message = refusal(lambda: merge_adapters(arguments))

    assert f"does not fit this base in {len(tensors) - len(half)} tensors" in message
    assert not (tmp_path / "merged").exists()


# -- shards


def set_file(folder: Path, file: Any) -> str:
    """Let the index say that one tensor is in `file`; returns the tensor's name."""
    index = json.loads((folder / INDEX).read_text())
    name = next(iter(index["weight_map"]))
    index["weight_map"][name] = file
    (folder / INDEX).write_text(json.dumps(index))
    return name


def test_shards_as_saved_are_loaded(sharded: Path, folder: Path) -> None:
    expected = load(folder).state_dict()

    loaded = load(sharded).state_dict()

    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    "file", ["../model/model.safetensors", "/tmp/model.safetensors", "a/b.safetensors",
             "..\\model.safetensors", "C:model.safetensors", "..", "", 5, None],
)  # fmt: skip
def test_index_that_leads_out_of_the_folder_is_refused(
    sharded: Path, folder: Path, file: Any
) -> None:
    name = set_file(sharded, file)

    message = refusal(lambda: load(sharded))

    assert message.startswith(f"{sharded / INDEX}: expected the name of a file in this folder")
    assert f"{name}, found {file!r}" in message


def test_index_with_a_shard_that_is_not_there_is_refused(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()

    message = refusal(lambda: load(sharded))

    assert message.startswith(f"{shard}: expected ") and "found no such file" in message


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop, "1 missing (first: ['{name}'])"),
        (rename, "1 missing (first: ['{name}']) and 1 too many (first: ['{name}_old'])"),
        (add, "0 missing (first: []) and 1 too many (first: ['{name}_old'])"),
    ],
)
def test_shard_with_other_tensors_than_the_index_says_is_refused(
    sharded: Path, damage: Callable[[Tensors, str], None], words: str
) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[0]
    name = edit(shard, damage)

    message = refusal(lambda: load(sharded))

    assert message.startswith(f"{shard}: expected the ")
    assert words.format(name=name) in message


def test_tensor_in_two_shards_is_refused(sharded: Path) -> None:
    first, second = sorted(sharded.glob("*.safetensors"))[:2]
    twice = next(iter(load_file(first).items()))
    save_file({**load_file(second), twice[0]: twice[1]}, second, metadata={"format": "pt"})

    message = refusal(lambda: load(sharded))

    assert message.startswith(f"{second}: ") and f"1 too many (first: ['{twice[0]}'])" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "expected a JSON object: "),
        ("[1]", "expected a JSON object, found list"),
        ("{}", "expected weight_map, an object from tensors to files, found NoneType"),
        ('{"weight_map": {}}', "expected weight_map"),
        ('{"weight_map": ["a"]}', "expected weight_map"),
        ("[" * 100_000, "expected a JSON object: "),
    ],
)
def test_index_that_is_none_is_refused(sharded: Path, text: str, words: str) -> None:
    (sharded / INDEX).write_text(text)

    message = refusal(lambda: load(sharded))

    assert message.startswith(f"{sharded / INDEX}: ") and words in message


def test_whole_file_beside_an_index_is_refused(sharded: Path, folder: Path) -> None:
    shutil.copy(folder / WEIGHTS, sharded)

    assert "found both" in refusal(lambda: load(sharded))


def test_config_that_names_another_file_of_weights_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["transformers_weights"] = "other.safetensors"
    (folder / "config.json").write_text(json.dumps(config))

    assert "transformers_weights" in refusal(lambda: load(folder))


def test_adapter_beside_a_model_is_not_taken_for_a_part_of_it(folder: Path, adapter: Path) -> None:
    shutil.copytree(adapter, folder, dirs_exist_ok=True)

    assert "merge_peft_adapter.py" in refusal(lambda: load(folder))


# -- what must go on to load


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def model_of_a_kind(request: pytest.FixtureRequest, small_model_folder: Path) -> GlmForCausalLM:
    config = GlmConfig.from_pretrained(small_model_folder, tie_word_embeddings=request.param)
    torch.manual_seed(3)
    return GlmForCausalLM(config)


@pytest.mark.parametrize("max_shard_size", ["1GB", "200KB"])
def test_tied_and_untied_models_load_as_they_were(
    model_of_a_kind: GlmForCausalLM, tmp_path: Path, max_shard_size: str
) -> None:
    model_of_a_kind.save_pretrained(tmp_path / "saved", max_shard_size=max_shard_size)
    has_head = any("lm_head.weight" in load_file(p) for p in tmp_path.glob("saved/*.safetensors"))

    loaded = load(tmp_path / "saved")

    is_tied = loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert is_tied == model_of_a_kind.config.tie_word_embeddings == (not has_head)
    assert torch.equal(loaded.lm_head.weight, model_of_a_kind.lm_head.weight)


def test_tied_head_stored_a_second_time_is_not_one_too_many(
    small_model_folder: Path, tmp_path: Path
) -> None:
    model = GlmForCausalLM(GlmConfig.from_pretrained(small_model_folder, tie_word_embeddings=True))
    model.save_pretrained(tmp_path / "saved")
    tensors = load_file(tmp_path / "saved" / WEIGHTS)
    head = tensors["model.embed_tokens.weight"].clone()
    save_file(
        {**tensors, "lm_head.weight": head}, tmp_path / "saved" / WEIGHTS, metadata={"format": "pt"}
    )

    assert torch.equal(load(tmp_path / "saved").lm_head.weight, head)


def test_tensors_that_the_family_ignores_are_no_reason_to_refuse(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    load(folder)


# -- finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_anywhere_is_found(dtype: torch.dtype, value: float) -> None:
    for size in (1, 7, 64, 1000, 70_000):
        for position in {0, size // 2, size - 1}:
            tensor = torch.zeros(size, dtype=dtype)
            assert strict.is_finite(tensor)
            tensor[position] = value
            assert not strict.is_finite(tensor)


def test_extra_names_are_found_where_transformers_does_not_say(folder: Path) -> None:
    model = load(folder)
    names = {"lm_head.weight", "model.norm.weight", "norm.weight", "more", "a.rotary_emb.inv_freq"}

    assert strict.find_extra(names, model) == {"more"}
    assert strict.find_extra(set(load_file(folder / WEIGHTS)), model) == set()


def test_buffers_are_looked_at_and_integers_are_finite() -> None:
    module = torch.nn.BatchNorm1d(2)  # num_batches_tracked is an integer
    strict.check_finite_model("here", module)
    assert module.running_var is not None
    module.running_var[1] = float("inf")

    assert "(first: running_var)" in refusal(lambda: strict.check_finite_model("here", module))


def test_of_a_divided_model_the_part_is_looked_at_without_its_padding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five values on two processes: the second has two, and one of padding that is anything."""
    monkeypatch.setattr(torch.distributed, "get_rank", lambda group: 1)
    monkeypatch.setattr(strict, "gather_names", lambda names: names)
    module = torch.nn.Linear(5, 1, bias=False)
    module.weight.data = torch.empty(0)
    part = torch.tensor([1.0, 2.0, float("nan")])
    vars(module.weight).update(ds_tensor=part, ds_numel=5, ds_process_group=None)

    strict.check_finite_model("here", module)

    part[1] = float("inf")
    assert "(first: weight)" in refusal(lambda: strict.check_finite_model("here", module))


# -- evaluation


def drop_half(path: Path) -> str:
    tensors = load_file(path)
    names = sorted(tensors)
    save_file({n: tensors[n] for n in names[::2]}, path, metadata={"format": "pt"})
    return f"{len(names) // 2} missing (first: ['{names[1]}'"


@pytest.mark.parametrize("damage", [drop_half, rename, put_nan])
def test_evaluation_refuses_a_damaged_model(
    folder: Path, tmp_path: Path, damage: Callable[..., Any]
) -> None:
    words = drop_half(folder / WEIGHTS) if damage is drop_half else edit(folder / WEIGHTS, damage)
    options = [f"--model_name_or_path={folder}", f"--data_dir={REPO / 'data/eval'}"]
    output = tmp_path / "out"

    message = refusal(lambda: evaluation.main([*options, f"--output_dir={output}"]))

    assert str(folder) in message and words in message
    assert not (output / "results.json").exists()


# -- pickles


class Evil:
    """An object that makes a file when its pickle is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.fixture
def evil(tmp_path: Path) -> bytes:
    return pickle.dumps(Evil(tmp_path / "was_run"))


def test_the_pickle_of_these_tests_makes_its_mark(evil: bytes, tmp_path: Path) -> None:
    pickle.loads(evil)

    assert (tmp_path / "was_run").exists()


def test_pickles_beside_the_weights_are_left_alone(
    folder: Path, adapter: Path, evil: bytes, tmp_path: Path
) -> None:
    for name in ("pytorch_model.bin", "adapter_model.bin", "optimizer.pt", "training_args.bin"):
        (folder / name).write_bytes(evil)
        (adapter / name).write_bytes(evil)

    load_tokenizer(ModelArguments(str(folder)))
    load_adapter(load(folder), str(adapter))

    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_model_in_pickles_alone_is_refused_with_the_way_to_convert_it(
    folder: Path, evil: bytes, tmp_path: Path, name: str
) -> None:
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(evil)

    message = refusal(lambda: load(folder))

    assert f"found only pickles ({name})" in message and "save_pretrained" in message
    assert not (tmp_path / "was_run").exists()


def test_adapter_in_a_pickle_is_refused_with_the_way_to_convert_it(
    folder: Path, adapter: Path, evil: bytes, tmp_path: Path
) -> None:
    (adapter / ADAPTER).unlink()
    (adapter / "adapter_model.bin").write_bytes(evil)

    message = refusal(lambda: load_adapter(load(folder), str(adapter)))

    assert "found only pickles (adapter_model.bin)" in message and "save_pretrained" in message
    assert not (tmp_path / "was_run").exists()


def test_folders_without_weights_say_what_they_lack(folder: Path, adapter: Path) -> None:
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    (adapter / "adapter_config.json").unlink()

    assert "found neither" in refusal(lambda: load(folder))
    message = refusal(lambda: check_adapter_folder(adapter))
    assert "found no adapter_config.json" in message


UNPICKLERS = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def unsafe_calls(source: str) -> list[str]:
    """Names of the calls that open a pickle or run a model's own code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        options = {word.arg: ast.unparse(word.value) for word in node.keywords}
        name = ast.unparse(node.func)
        owner, _, function = name.rpartition(".")
        if (
            (name == "torch.load" and options.get("weights_only") != "True")
            or (owner in UNPICKLERS and function in ("load", "loads", "Unpickler", "open"))
            or options.get("trust_remote_code") == "True"
            or options.get("allow_pickle") == "True"
        ):
            found.append(name)
    return found


def test_the_search_for_unsafe_calls_finds_them() -> None:
    source = (
        "torch.load(f)\ntorch.load(f, weights_only=False)\npickle.loads(b)\npickle.Unpickler(f)\n"
        "np.load(f, allow_pickle=True)\nAutoModel.from_pretrained(n, trust_remote_code=True)\n"
        "torch.load(f, weights_only=True)\njson.load(f)\npickle.dumps(f)"
    )
    assert unsafe_calls(source) == [
        "torch.load", "torch.load", "pickle.loads", "pickle.Unpickler", "np.load",
        "AutoModel.from_pretrained",
    ]  # fmt: skip


def test_nothing_opens_a_pickle_or_allows_remote_code() -> None:
    paths = [path for root in ("medtune", "bench", "data") for path in (REPO / root).rglob("*.py")]
    paths += REPO.glob("*.py")
    assert len(paths) > 50

    found = {
        str(path.relative_to(REPO)): calls
        for path in paths
        if (calls := unsafe_calls(path.read_text(encoding="utf-8")))
    }

    assert found == {}


# -- the model's own code


@pytest.mark.parametrize("model_type", ["glm", "unheard_of", "chatglm"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_own_code_is_refused_by_file_before_it_runs(
    folder: Path, adapter: Path, tmp_path: Path, file: str, model_type: str
) -> None:
    marker = tmp_path / "was_run"
    (folder / "modeling.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass C: pass\n")
    content = json.loads((folder / file).read_text())
    content["auto_map"] = {
        "AutoConfig": "modeling.C",
        "AutoModelForCausalLM": "modeling.C",
        "AutoTokenizer": ["modeling.C", None],
    }
    if file == "config.json":
        content["model_type"] = model_type
    (folder / file).write_text(json.dumps(content))
    merging = MergeArguments(str(folder), [str(adapter)], str(tmp_path / "merged"))
    ways: list[Callable[[], object]] = [
        lambda: load_tokenizer(ModelArguments(str(folder))),
        lambda: merge_adapters(merging),
    ]
    if file == "config.json":
        ways.append(lambda: load(folder))

    for way in ways:
        message = refusal(way)

        assert message.startswith(f"{folder / file}: expected a model in its native format")
        assert "there is no flag" in message
        assert not marker.exists()
