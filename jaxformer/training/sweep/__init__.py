"""Many runs of one experiment that differ in a few fields: which, side by side, resumed, ranked, drawn.

Every trial is a run of its own, in a process of its own; nothing here trains. `options` reads the flags, `grid` makes
the trials' fields, `folder` keeps who is who on disk, `children` runs them, `outcomes` reads what came of them, `table`
and `picture` show it, and `entry` goes through these in order. Importing it starts no device: an accelerator's memory
is the trials'.
"""
