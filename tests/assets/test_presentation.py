"""How results are shown: a page says "none" rather than nothing."""

from proc_decam_dagster.assets.presentation import described, headings, listed, markdown_table


def test_a_table_is_markdown_whatever_its_cells_hold():
    table = markdown_table(("file", "reason"), [("a.fits", "cut\nshort"), ("b.fits", "x | y")])
    assert table.value == "| file | reason |\n| --- | --- |\n| a.fits | cut short |\n| b.fits | x \\| y |"


def test_a_table_without_rows_and_a_list_without_items_say_none():
    assert markdown_table(("file", "reason"), iter([])).value == listed([]).value == "none"
    assert listed([845000, 845001]).value == "845000, 845001"


def test_columns_are_read_with_their_units():
    assert headings(["night", "dome_flats", "expected_gb"]) == ["night", "dome flats", "expected (GB)"]


def test_a_description_begins_in_plain_words_and_names_the_figures_with_their_units():
    told = described("Master bias.", "bias", "certified", "median_level", level="ADU")
    what, chain, table = told.split("\n\n")
    assert (what, chain) == ("Master bias.", "Chain `{night}/bias`.")
    assert "| `median_level` | level | ADU |" in table
    assert "| `seeing_arcsec` | seeing (FWHM) | arcsec |" in described("Exposures.", "drp", "seeing_arcsec")
