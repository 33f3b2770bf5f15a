"""What decides about labels, as values: the specification of a campaign, the status of an answer, the label of a task."""
