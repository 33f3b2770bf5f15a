"""Data preparation: plan, partitions, fit, features, commit; and `rebuild`, which makes a data set again from its manifest.

Every job is a function of its request and the source's bytes: the same inputs give the same objects, byte for byte.
"""

from perdure.jobs.preparation.commit import commit
from perdure.jobs.preparation.features import features
from perdure.jobs.preparation.fit import fit
from perdure.jobs.preparation.partition import partition
from perdure.jobs.preparation.plan import plan
from perdure.jobs.preparation.rebuild import rebuild

__all__ = ["commit", "features", "fit", "partition", "plan", "rebuild"]
