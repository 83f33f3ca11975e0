"""One file per verb, each with an `app`: parse, call the library, render."""
