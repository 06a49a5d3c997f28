"""A language model as judge, behind any OpenAI-compatible server: win rates and ratings.

* ``settings``: which model judges, and where it is served; only the first decides the result.
* ``client``: asks it, at most so many requests at once; ``cache`` keeps what it answered.
* ``pairwise``: a model's responses against references, as AlpacaEval; with ``length_control``.
* ``rating``: each response from 1 to 10, as MT-Bench.
* ``cost``: requests, tokens and money, before; ``usage``: afterwards.
* ``inputs``: files of a set, matched before any model has answered; ``suites`` of such sets.

What a judge says that is no verdict is counted, and is never a number. Too much of it is no score.
"""
