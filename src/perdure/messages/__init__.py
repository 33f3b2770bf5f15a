"""What crosses a process boundary: plain frozen dataclasses, standard library only.

Start requests and update arguments forbid unknown fields, so that a typo is refused at once; all other messages ignore them,
so that a rolled-back worker can read what a newer one wrote. New fields get defaults; no field changes its meaning.
"""
