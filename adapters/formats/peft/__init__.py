"""PEFT's folders: adapter_config.json and adapter_model.safetensors, with the head under `modules_to_save`."""
