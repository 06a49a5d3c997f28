"""Questions to a store of many runs cost as many statements as to one of few."""

import io
import subprocess
import sys

import pytest
from rich.console import Console

from wit import lineage
from wit.bench.scale import counted
from wit.bench.scale_store import fill
from wit.lineage.tree import FEW_CHILDREN, MAX_CHILDREN, show_lineage


@pytest.fixture(scope="module", params=[30, 1500])
def store(request, tmp_path_factory):
    return fill(tmp_path_factory.mktemp("many"), request.param)


def test_the_statements_of_a_table_do_not_grow_with_the_runs(store):
    with counted() as statements:
        table = lineage.table(store.study.name, store.uri)
    assert set(table.cell) == {"base", *map(str, store.study.cells)}
    assert len(statements) == 4 + 4 + 1  # study, evaluations, and no run that is unfinished


def test_the_statements_of_a_lineage_do_not_grow_with_the_runs(store):
    model = store.plan.cells[0].sft
    with counted() as statements:
        node = lineage.lineage(model.fingerprint, store.uri)
    measured = store.plan.cells[0].sft_evaluations
    assert {child.fingerprint for child in node.children} >= {a.fingerprint for a in measured}
    # Itself, parents and their parents; of what is below no params are asked for.
    assert len(statements) == 4 * (1 + 2) + 3
    with counted() as statements:
        lineage.lineage(store.plan.instructions.fingerprint, store.uri)
    assert len(statements) == 4 * (1 + 1) + 3


def test_a_family_of_a_thousand_fits_on_a_terminal(tmp_path):
    store = fill(tmp_path, 1000)
    node = lineage.lineage(store.plan.instructions.fingerprint, store.uri)
    num_cells = len(store.study.cells)
    assert num_cells > MAX_CHILDREN
    said = io.StringIO()
    show_lineage(Console(file=said, width=100), node)
    said = said.getvalue()
    assert len(said.splitlines()) < 100
    assert f"{num_cells - FEW_CHILDREN} more of stage sft; --json lists them" in said


def test_a_question_to_a_database_does_not_wait_for_heavy_imports(tmp_path):
    store = fill(tmp_path, 20)
    code = (
        "import sys; from wit.lineage import lineage, table, tree;"
        f"lineage({store.plan.instructions.fingerprint!r}, {store.uri!r});"
        "heavy = {'mlflow', 'pandas', 'torch', 'transformers', 'sqlalchemy'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
