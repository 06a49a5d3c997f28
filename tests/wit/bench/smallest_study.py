"""What is left of the quickstart where its benchmarks are tested: one cell, a few rows."""

TINY = (
    "instructions.max_rows=24",
    "preferences.max_rows=24",
    "weights=[{prompt: 0, response: 1}]",
    "seeds=[0]",
    "sft.num_epochs=1",
    "benchmarks=[{name: wit_choice, role: select, limit: 8}]",
    "text=null",
    "sensitivity=null",
    "samples=null",
)
