"""Picture of the set-up page of a computer on which the packages are missing: the checks are those of this computer."""


def shoot(sheet, work, python):
    import qt
    from bed import boot, render
    from segment_builders import Panel

    qt.QSettings().remove("TransMedSeg/Python")  # Slicer's own Python: this one has no PyTorch
    panel = Panel()
    try:
        panel.ui.setupButton.click()
        page = panel.module.setupPage
        assert boot.process_events(60, until=lambda: not page._asking)
        for button in (panel.ui.segmentCollapsibleButton, panel.ui.casesCollapsibleButton):
            button.collapsed = True
        boot.process_events(0.3)
        sheet.write("setup-page", render.grab(panel.widget.parent, width=620))
    finally:
        panel.close()
