"""One module per sub-command of `keystep`, each with a `main` whose signature is the command line.

Modules are imported when their command runs, so `keystep profile` needs neither torch nor a simulator.
"""
