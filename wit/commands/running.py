"""Running a study, and looking before one runs it."""

from typing import Annotated

import typer
from rich.console import Console

from wit.commands.options import (
    AsJSON,
    Overrides,
    RuntimeFile,
    RuntimeOverrides,
    StudyFile,
    console,
    print_json,
)


def run(
    study_file: StudyFile,
    runtime_file: RuntimeFile = None,
    overrides: Overrides = None,
    runtime_overrides: RuntimeOverrides = None,
) -> None:
    """Run a whole study here; run again, it reuses all that is complete."""
    from wit.running import run_here

    try:
        outcome = run_here(console, study_file, overrides, runtime_file, runtime_overrides)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; run again to go on where it was")
        raise typer.Exit(130) from None
    raise typer.Exit(outcome.exit_code)


def plan(
    study_file: StudyFile,
    runtime_file: RuntimeFile = None,
    overrides: Overrides = None,
    runtime_overrides: RuntimeOverrides = None,
    as_json: AsJSON = False,
) -> None:
    """Say what a run would make, reuse and cost. Touches nothing."""
    from wit.display import plan_as_json, show_plan
    from wit.estimate import estimate
    from wit.loading import load_runtime, load_study
    from wit.machine import check_pairs, check_the_judge
    from wit.plan import make_plan
    from wit.running import with_secrets

    runtime = load_runtime(runtime_file, runtime_overrides or [])
    planned = make_plan(load_study(study_file, overrides or []), runtime)
    check_the_judge(planned, with_secrets(planned, runtime))
    check_pairs(planned)
    cost = estimate(planned, runtime)
    if as_json:
        print_json(plan_as_json(planned, cost))
    else:
        show_plan(console, planned, cost)


def show_data(
    study_file: StudyFile,
    num_rows: Annotated[int, typer.Option("-n", min=0, help="Rows and pairs to show")] = 3,
    is_plain: Annotated[bool, typer.Option("--plain", help="Names of roles, no colours")] = False,
    runtime_file: RuntimeFile = None,
    overrides: Overrides = None,
    runtime_overrides: RuntimeOverrides = None,
    as_json: AsJSON = False,
) -> None:
    """Show real rows and pairs, every token by its role; what was dropped and why; the cards."""
    from wit.loading import load_runtime, load_study
    from wit.plan import make_plan
    from wit.preview import prepared
    from wit.show import rows_as_json, show_rows

    runtime = load_runtime(runtime_file, runtime_overrides or [])
    study = load_study(study_file, overrides or [])
    with prepared(make_plan(study, runtime)) as folders:
        if as_json:
            print_json(rows_as_json(folders, study.weights, num_rows))
        else:
            show_rows(console, folders, study.weights, num_rows, is_plain=is_plain)
