"""The slider of a denoising drawn alone: at every height, and with more steps than cells and fewer."""

from likely.app.tui.widgets.denoising_steps import DenoisingSteps
from tests.tui.widgets.canvases import canvas
from tests.tui.widgets.drawing import Pictures, beside, click


def slider(step: int, *, steps: int = 5, planned: int = 8, live: bool = False) -> DenoisingSteps:
    found = DenoisingSteps()
    found.show(canvas(steps, planned=planned), step, live)
    return found


def test_rows_go_as_the_height_does_and_the_knob_stands_at_the_step(pictures: Pictures) -> None:
    for height in range(1, 7):
        pictures.draw(slider(3), 40, height, "step 3 of 8, 5 have come")
    for step in (0, 1, 2, 4, 5):
        pictures.draw(slider(step, live=step == 5), 40, 5, f"step {step}")
    pictures.draw(DenoisingSteps(), 40, 5, "none")
    pictures.draw(slider(0, steps=0), 40, 5, "no step yet")
    pictures.compare("denoising-steps")


def test_steps_share_cells_where_there_are_more_of_them_and_fill_several_where_there_are_fewer(
    pictures: Pictures,
) -> None:
    for width in (12, 15, 16, 17, 19, 20, 31, 60):
        pictures.draw(slider(4), width, 5)
        pictures.draw(slider(8, steps=8, planned=0), width, 5, "the number of steps is not known")
    for planned in (1, 2, 3, 100, 1000):
        pictures.draw(slider(1, steps=1, planned=planned), 30, 5, f"1 of {planned}")
    pictures.compare("denoising-steps-widths")


def test_numbers_under_the_slider_stand_apart(pictures: Pictures) -> None:
    for planned in (8, 21, 100):
        it = slider(1, planned=planned)
        pictures.add([it._axis(room) for room in range(4, 33)], f"{planned} steps")
    pictures.compare("denoising-steps-axis")


def test_a_click_walks_to_the_nearest_step(pictures: Pictures) -> None:
    it = slider(3)
    pictures.up(it, (43, 5))  # 32 cells, 4 a step
    # column of a step: 0 4 8 12 16; the sixth has not come
    for x, step in ((0, 1), (10, 1), (12, 1), (13, 2), (16, 2), (17, 3), (22, 4), (26, 5), (40, 5), (60, 5)):
        it.on_click(click(x, 2))
        (said,) = pictures.said
        assert isinstance(said, DenoisingSteps.Walked) and said.step == step, x
        pictures.said.clear()
    it.on_click(beside())
    for nothing in (DenoisingSteps(), slider(0, steps=0)):
        pictures.up(nothing, (43, 5))
        nothing.on_click(click(20, 2))
    assert not pictures.said
    pictures.redraws()
    slider(3)
    assert pictures.redraws() == 1
