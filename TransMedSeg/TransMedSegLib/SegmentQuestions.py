"""What is asked about volumes before they are segmented, one or many, and what the answers do. Nothing is passed over in silence."""

from slicer.i18n import tr as _

from . import InputCheck, TimeFrames
from .CaseTable import addCase, removeCase
from .Counted import counted
from .Messages import withCode
from .SpacingDialog import askForSpacing, setSpacing

_UNLIKE = ("E307", "E308")
_MOST_LINES = 8


class SegmentQuestions:
    """Asks, and remembers what was settled for a volume until the scene is closed.

    Args:
        panel: The section; its `segmentThis` looks at the open case again.
    """

    def __init__(self, panel):
        self._panel = panel
        self._settled = {}

    def forget(self):
        """The scene is closed."""
        self._settled.clear()

    def problems(self, case):
        """What is not settled yet about a case, the gravest first."""
        settled = self._settled.get(case.id, set())
        return InputCheck.check(case.volume, ignored=settled) + self._panel.models.mismatch(case.volume, settled)

    def isSettled(self, case, code):
        """Whether the user has answered this question about a case."""
        return code in self._settled.get(case.id, set())

    def settle(self, case, *codes):
        self._settled.setdefault(case.id, set()).update(codes)

    # One case

    def isOpen(self, case):
        """Asks about the gravest problem of a case. Returns False where there is none."""
        found = self.problems(case)
        if found:
            self._panel.notice.say(found[0].text, found[0].code, self._actions(case, found[0]))
        return bool(found)

    def _actions(self, case, problem):
        again = lambda: self._goOn(case, problem.code)
        goOn = (_("Continue"), again)
        unlike = (goOn, (_("Choose another model"), self._panel.models.manage))
        step = problem.values.get("step", "")
        even = lambda: self._goOn(case, "E304", "E305")
        spacing = (_("Set spacing…"), lambda: self._onSpacing(case))
        return {
            "E302": ((_("Pick a time frame…"), lambda: self._pickFrame(case)),) if TimeFrames.frameCount(case.volume) else (),
            "E303": ((_("Apply the transform first"), lambda: self._harden(case)), (_("Ignore it for this run"), again)),
            "E304": ((_("Resample to {step} mm").format(step=step), even),),
            "E305": ((_("Resample"), even),),
            "E306": (spacing,) if problem.blocks else (spacing, goOn),
            "E310": ((_("Draw a box around the heart"), self._panel.region.draw),),
            "E307": unlike,
            "E308": unlike,
        }.get(problem.code, ())

    def _goOn(self, case, *codes):
        self.settle(case, *codes)
        self._panel.segmentThis()

    def _pickFrame(self, case):
        """One frame takes the place of a time series on the list."""
        index = TimeFrames.askForFrame(case.volume)
        if index is None:
            self._panel.segmentThis()  # asks again
            return
        frame = addCase(TimeFrames.frameOf(case.volume, index))
        removeCase(case)
        self._panel.desk.open(frame)
        self._panel.segmentThis()

    def _harden(self, case):
        case.volume.HardenTransform()
        if case.segmentation is not None:
            case.segmentation.HardenTransform()
        self._panel.segmentThis()

    def _onSpacing(self, case):
        spacing = askForSpacing(case.volume, self._panel.models.typicalSpacingMm)
        if spacing is None:
            self._panel.segmentThis()  # asks again
            return
        before = self._setSpacing(case, spacing)
        self.settle(case, "E306")
        text = _("Spacing of '{name}' is now {spacing} mm (columns × rows × slices).")
        said = text.format(name=case.name, spacing="×".join(f"{value:.4g}" for value in spacing))
        undo = lambda: self._undoSpacing(case, before)
        self._panel.notice.say(said, "", ((_("Segment"), self._panel.segmentThis), (_("Undo"), undo)))

    def _undoSpacing(self, case, before):
        self._setSpacing(case, before)
        self._settled[case.id].discard("E306")
        self._panel.segmentThis()  # asks again

    def _setSpacing(self, case, spacing):
        with self._panel.desk.review.writing():
            before = setSpacing(case, spacing)
        self._panel.desk.refresh()
        return before

    # Many cases

    def askAll(self, caseList, start):
        """Asks once about all cases that a person has to decide on, then starts.

        Args:
            caseList: The cases.
            start: Called as start(cases, blocked, leftOut): the problems of those that cannot be used, and the cases the user wants left out.
        """
        found = {case: self.problems(case) for case in caseList}
        blocked = {case: next(one for one in some if one.blocks) for case, some in found.items() if any(one.blocks for one in some)}
        usable = [case for case in caseList if case not in blocked]
        asked = {case: found[case] for case in usable if found[case]}
        if not asked:
            start(usable, blocked, [])
            return
        rest = [case for case in usable if case not in asked]
        actions = [
            (_("Continue"), lambda: self._goOnWith(asked, lambda: start(usable, blocked, []))),
            (_("Leave them out"), lambda: start(rest, blocked, list(asked))),
        ]
        if any(one.code in _UNLIKE for some in asked.values() for one in some):
            actions.append((_("Choose another model"), self._panel.models.manage))
        self._panel.notice.say(_batchText(asked, len(caseList)), "", tuple(actions))

    def _goOnWith(self, asked, start):
        for case, some in asked.items():
            self.settle(case, *(one.code for one in some))
        start()


def _batchText(asked, total):
    """What is not as it should be, a line each; long lists are cut."""
    lines = [withCode(one.code, one.text) for some in asked.values() for one in some]
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], _("… and {count} more").format(count=len(lines) - _MOST_LINES)]
    one, many = _("{count} of {total} cases needs a decision:"), _("{count} of {total} cases need a decision:")
    first = counted(len(asked), one, many, total=total) if total > 1 else _("One case needs a decision:")
    return "\n".join([first, *lines])
