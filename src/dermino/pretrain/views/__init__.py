"""Views of an image: crops on the CPU, colours on the device, masks over patches."""
