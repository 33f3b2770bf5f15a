"""Activities: they start and watch jobs, and turn what jobs wrote into rows. One class a step, made with ports."""
