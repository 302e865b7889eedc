"use strict";
/* B-scan viewers: one frame at a time, the map of evidence over it, as strong as the reader wants. */
for (const viewer of document.querySelectorAll("[data-viewer]")) {
  const frames = [...viewer.querySelectorAll("[data-frame]")];
  const slider = viewer.querySelector("[data-role=frame]");
  const label = viewer.querySelector("[data-role=frame-label]");
  const shown = viewer.querySelector("[data-role=shown]");
  const opacity = viewer.querySelector("[data-role=opacity]");
  const layers = [...viewer.querySelectorAll("[data-role=layer]")];
  const marks = [...viewer.querySelectorAll("[data-mark]")];
  const show = () => {
    frames.forEach((frame, place) => { frame.hidden = place !== Number(slider.value); });
    marks.forEach((mark, place) => { mark.style.display = place === Number(slider.value) ? "" : "none"; });
    label.textContent = frames[Number(slider.value)].dataset.frame;
  };
  const paint = () => {
    const chosen = layers.find((layer) => layer.checked)?.value;
    for (const heat of viewer.querySelectorAll("[data-heat]")) {
      const seen = shown.checked && (chosen === undefined || heat.dataset.heat === chosen);
      heat.style.opacity = seen ? opacity.value / 100 : 0;
    }
  };
  slider.addEventListener("input", show);
  for (const input of [shown, ...layers]) input?.addEventListener("change", paint);
  opacity?.addEventListener("input", paint);
  show();
  if (shown) paint();
}
/* What is wider than its place scrolls inside itself, and can be reached by keyboard then. */
const reach = () => {
  for (const box of document.querySelectorAll(".wide")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("resize", reach);
reach();
/* Tables: a click or Enter on a column's head sorts by it, again turns the order. */
for (const button of document.querySelectorAll("table[data-sortable] thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      const numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
      return (numbers ? x - y : x.localeCompare(y)) * (up ? 1 : -1);
    };
    const body = table.tBodies[0];
    [...body.rows].sort(order).forEach((row) => body.append(row));
  });
}
