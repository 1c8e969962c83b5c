"""The words of the design as types; knows no hypervisor, no engine, no screen."""
