"""Which bytes are an adapter: the native package, and the folders of AdapterHub and PEFT, read and written."""
