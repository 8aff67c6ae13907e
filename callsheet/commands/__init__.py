"""
The commands of `callsheet`, a module each.

Rule: what a command does it does through what every program can use: a Client, `open_runtime`. A module loads what its
command needs when that is called, so that help and a misspelt word are quick.
Read first: `group` (how a command ends), `paper` (where it writes), `reach` (how it finds the store and the jobs).
Not here: the console script (`callsheet.cli`), the demonstration (`callsheet.demo`).
"""
