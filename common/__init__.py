"""What all four methods share: data sets, box geometry, protocols, metrics, predictions. No framework is imported."""
