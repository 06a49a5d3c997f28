"""A study as a user writes it."""

from pathlib import Path

STUDY = """\
name: small
base:
  path: models/base
  template: templates/ours.jinja
instructions: {path: rows.jsonl, max_tokens: 64}
preferences:
  path: /data/pairs.jsonl
weights:
  - {prompt: 0, response: 1}
  - prompt: 0.2
    response: 1
seeds: [0, 1]
sft:
  learning_rate: 1e-3
benchmarks:
  - name: seen
    role: select
    path: seen.yaml
  - {name: unseen, role: report}
"""


def line_of(file: Path, text: str) -> int:
    lines = file.read_text().splitlines()
    [number] = [i for i, line in enumerate(lines, start=1) if text in line]
    return number
