"""What crosses a process boundary: plain frozen dataclasses, standard library only.

Start requests and update arguments forbid unknown fields, so that a typo is refused at once; all other messages ignore them,
so that a rolled-back worker can read what a newer one wrote. New fields get defaults; no field changes its meaning.

These modules do without postponed annotations: the workflow sandbox has modules of its own, in which the names of a base class
in another module could not be resolved.
"""
