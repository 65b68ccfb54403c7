"""What `snnkd fit` prints."""

from rich.console import Console

from snnkd_deploy.report.fit import fit_table


def test_cores_of_several_chips_are_those_of_all_of_them():
    fit = {"fits": True, "cores": 5, "cores_available": 2, "chips": 3, "binding": "cores", "utilisation": {}}
    fit |= {"violations": [], "unknown_limits": [], "note": ""}
    console = Console(width=120)
    with console.capture() as shown:
        console.print(fit_table({"small": fit}))
    assert "5 of 6" in shown.get()
