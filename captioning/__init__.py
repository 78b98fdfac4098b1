"""Make prompts: real photographs in, label-0 images and captions out."""
