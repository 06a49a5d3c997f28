"""No call in the code asks to run what it reads."""

import ast
from collections.abc import Iterator
from importlib import import_module

from samples import ROOT
from yaml.constructor import SafeConstructor

SOURCES = [file for name in ("wit", "tasks", "flows") for file in (ROOT / name).rglob("*.py")]
# Of what they unpickle the one knows the writer, its own parent; the other takes descriptions only.
UNPICKLING = {"wit/data/processes.py", "wit/training/shard_reader.py"}
NEVER_IMPORTED = {"dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield str(file.relative_to(ROOT)), node


def test_no_call_asks_to_run_what_it_reads() -> None:
    seen = 0
    for file, call in calls():
        said, keywords = ast.unparse(call.func), {k.arg: k.value for k in call.keywords}
        where = f"{file}:{call.lineno}: {said}"
        for name, safe in (
            ("trust_remote_code", False),
            ("weights_only", True),
            ("use_safetensors", True),
            ("allow_pickle", False),
            ("shell", False),
        ):
            if name in keywords:
                assert ast.literal_eval(keywords[name]) is safe, where
        if said == "torch.load":
            assert "weights_only" in keywords, where
        if said.endswith("from_pretrained") and file != "wit/builtin/pretrain.py":  # its own model
            assert "trust_remote_code" in keywords, where
            seen += 1
        if said == "yaml.load":
            loader = getattr(
                import_module(file[:-3].replace("/", ".")), ast.unparse(keywords["Loader"])
            )
            assert issubclass(loader, SafeConstructor), where
        assert said not in ("eval", "exec", "compile", "yaml.unsafe_load", "yaml.full_load"), where
        assert said != "__import__", where
    assert seen == 6


def test_nothing_is_unpickled_but_in_two_places() -> None:
    importing, unpickling = set(), set()
    for file in SOURCES:
        name = str(file.relative_to(ROOT))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert name == "wit/lifeline.py" or not NEVER_IMPORTED & set(modules), name
            if "pickle" in modules:
                importing.add(name)
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("pickle.load"):
                unpickling.add(name)
    assert importing == UNPICKLING
    assert unpickling == {"wit/data/processes.py"}
