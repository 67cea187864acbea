"""Runs a module, or a file, with uvloop as its event loop: peers in Python do not choose it by themselves."""

import runpy
import sys

import uvloop

uvloop.install()
main, sys.argv = sys.argv[1], sys.argv[1:]
if main.endswith(".py"):
    runpy.run_path(main, run_name="__main__")
else:
    runpy.run_module(main, run_name="__main__", alter_sys=True)
