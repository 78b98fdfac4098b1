"""Whether what a repo holds can belong to a base, as far as names, classes and widths tell without loading it."""

from collections.abc import Mapping
from typing import Any

from crawlers.recognition.base_resolution import BaseLook
from crawlers.recognition.packaging import Package


def misfit(package: Package, base: BaseLook) -> str | None:
    """Return why what a package holds cannot belong to a base, as far as names and widths tell; None if it may."""
    assert base.look.index is not None
    index, configs, contents = base.look.index, base.look.configs, package.contents
    component = package.component or contents.denoiser
    if component is not None and (part := index.component(component)) is None:
        has = index.component("unet", "transformer", "prior")
        return f"{contents.what}, and the base has {'a ' + has.name if has else 'no denoiser'}"
    if package.config and component is not None and (part := index.component(component)) is not None:
        own_class = package.config.get("_class_name")
        if own_class != part.class_name:
            return f"a {own_class}, and the base's {component} is a {part.class_name}"
        for key in ("in_channels", "cross_attention_dim", "joint_attention_dim"):
            own, its = package.config.get(key), configs.get(component, {}).get(key)
            if own is not None and its is not None and own != its:
                return f"{component}.{key} is {own}, and the base's {its}"
    its_width = _width(component, configs)
    if None not in (contents.width, its_width) and contents.width != its_width:
        return f"{contents.what} of width {contents.width}, and the base's is {its_width}"
    for place, width in zip(("text_encoder", "text_encoder_2"), contents.text_widths, strict=False):
        hidden = configs.get(place, {}).get("hidden_size")
        if isinstance(hidden, int) and hidden != width:
            return f"{contents.what}, and the base's {place} has width {hidden}"
        if index.component(place) is None:
            return f"{contents.what}, and the base has no {place}"
    return None


def _width(component: str | None, configs: Mapping[str, Mapping[str, Any]]) -> int | None:
    """Return the width that adapters of a denoiser must have: of its text for a UNet, of its stream for others."""
    config = configs.get(component or "", {})
    if component == "unet":
        width = config.get("cross_attention_dim")
        return width if isinstance(width, int) else None
    heads, head = config.get("num_attention_heads"), config.get("attention_head_dim")
    if isinstance(heads, int) and isinstance(head, int):
        return heads * head
    width = config.get("dim", config.get("hidden_size"))
    return width if isinstance(width, int) else None
