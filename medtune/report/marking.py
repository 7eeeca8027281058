"""Words as HTML, in both languages, of which page.js and style.css show one."""

from markupsafe import Markup, escape

from medtune.report.texts import LANGUAGES, Text, Words, in_language


def name_it(words: Words) -> Markup:
    """Return the attributes of an element that has this name for who cannot see it."""
    pattern = Markup(' aria-label="{1}" data-attribute="aria-label" data-zh="{0}" data-en="{1}"')
    return pattern.format(*(in_language(words, language) for language in LANGUAGES))


def tell(words: Words) -> Markup:
    """Return words as HTML: in both languages, of which the style shows one, or as they are."""
    if not isinstance(words, Text):
        return escape(words)
    if words.zh == words.en:
        return escape(words.en)
    spans = [
        Markup('<span class="{0}" lang="{1}">{2}</span>').format(
            language, "zh-CN" if language == "zh" else language, getattr(words, language)
        )
        for language in LANGUAGES
    ]
    return Markup("").join(spans)
