"""Events about drift in the words of others, read into `perdure.messages.retraining.DriftEvent`. Pure functions of what was sent."""
