"""Results of predictions: scored under every protocol, with intervals, compared, as tables."""
