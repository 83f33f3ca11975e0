"""The engine: pinned llama.cpp source, patched, built, cached by content, handed out typed.

`build.ensure("edge")` is the way in; everything else serves it.
"""
