"""wit: which loss weights on prompt and response tokens survive preference alignment?

The package is the science of the project and knows no orchestrator: everything in it runs from
a REPL. ``tasks`` wraps it for Prefect, ``flows`` puts the stages in order.
"""

__version__ = "0.1.0"
