"""What one Python user holds and says: packages with parameters, AdapterHub's verbs, batches of tensors."""
