// The list of channels on a device's form: find a channel, tick a whole column.

const list = document.querySelector("[data-grants]");

if (list) {
  const rows = [...list.querySelectorAll("[data-grant-row]")];
  const filter = document.querySelector("[data-grants-filter]");

  filter?.addEventListener("input", () => {
    const needle = filter.value.trim().toLocaleLowerCase();
    for (const row of rows) row.hidden = needle !== "" && !row.dataset.grantRow.toLocaleLowerCase().includes(needle);
  });
  // Enter in the filter must not send the form.
  filter?.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
  });

  for (const all of document.querySelectorAll("[data-all]")) {
    const boxes = () =>
      rows.filter((row) => !row.hidden).map((row) => row.querySelector(`input[name="${all.dataset.all}"]`));
    const update = () => {
      const ticked = boxes().filter((box) => box.checked).length;
      all.checked = ticked > 0 && ticked === boxes().length;
      all.indeterminate = ticked > 0 && !all.checked;
    };
    all.addEventListener("change", () => {
      for (const box of boxes()) box.checked = all.checked;
    });
    list.addEventListener("change", update);
    filter?.addEventListener("input", update);
    update();
  }
}
