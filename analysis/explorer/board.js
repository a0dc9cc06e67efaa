// A click on a map, or an arrow key on the picture, chooses a patch: every ring moves at once, and `tell` is told the point.
function listen(element, tell) {
  function choose(y, x, map) {
    const board = map.closest(".board") || element;
    const grid = board.querySelector("[data-rows]") || map;
    const rows = +grid.dataset.rows, columns = +grid.dataset.columns;
    y = Math.min(Math.max(y, 0), 0.9999);
    x = Math.min(Math.max(x, 0), 0.9999);
    const row = Math.floor(y * rows), column = Math.floor(x * columns);
    element.querySelectorAll(".ring").forEach((ring) => {
      ring.style.top = (100 * (row + 0.5)) / rows + "%";
      ring.style.left = (100 * (column + 0.5)) / columns + "%";
    });
    tell((row + 0.5) / rows, (column + 0.5) / columns);
  }
  element.addEventListener("click", (event) => {
    const map = event.target.closest(".map");
    if (!map) return;
    const box = map.getBoundingClientRect();
    choose((event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width, map);
  });
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  element.addEventListener("keydown", (event) => {
    const map = event.target.closest(".map");
    if (!map || !(event.key in steps)) return;
    event.preventDefault();
    const ring = map.querySelector(".ring"), [down, right] = steps[event.key];
    const y = parseFloat(ring.style.top) / 100 + down / map.dataset.rows;
    const x = parseFloat(ring.style.left) / 100 + right / map.dataset.columns;
    choose(y, x, map);
  });
}
