(function () {
  "use strict";
  var store = document.getElementById("maps");
  var veil = document.getElementById("veil");
  var value = document.getElementById("head-value");
  var squares = Array.prototype.slice.call(document.querySelectorAll("rect[data-head]"));
  var words = Array.prototype.slice.call(document.querySelectorAll("button[data-word]"));
  var layers = store.getAttribute("data-layers").split(" ");
  var heads = Number(store.getAttribute("data-heads"));
  var size = Number(store.getAttribute("data-cells"));
  var bytes = veil ? atob(store.getAttribute("data-maps")) : "";
  var layer = document.getElementById("layer");
  var head = document.getElementById("head");

  function draw(index, said) {
    if (!veil) { return; }
    for (var i = 0; i < size; i += 1) {
      var share = bytes.charCodeAt(index * size + i) / 255;
      veil.children[i].setAttribute("fill-opacity", (0.86 * (1 - share)).toFixed(2));
    }
    document.getElementById("looking").textContent = said;
  }
  function mark(row, column) {
    squares.forEach(function (one) {
      var on = one.getAttribute("data-layer") === String(row) && one.getAttribute("data-head") === String(column);
      one.classList.toggle("on", on);
    });
    var texts = squares.filter(function (one) { return one.classList.contains("on"); })
      .map(function (one) { return one.getAttribute("data-said"); });
    value.textContent = texts.length ? texts[0].split(":")[0] + ":" + texts.map(function (text) { return text.split(":")[1]; }).join(",") + "." : "";
  }
  function press(chosen) {
    words.forEach(function (one) { one.setAttribute("aria-pressed", String(one === chosen)); });
  }
  function byHead() {
    var row = Number(layer.value) - 1;
    var column = Number(head.value) - 1;
    head.disabled = row < 0;
    document.getElementById("layer-said").textContent = row < 0 ? "all" : layers[row];
    document.getElementById("head-said").textContent = row < 0 || column < 0 ? "all" : String(column);
    press(null);
    mark(row, column);
    if (row < 0) { draw(0, "All heads of all layers together, over the whole answer."); return; }
    draw(1 + row * (heads + 1) + 1 + column, "Layer " + layers[row] + ", " + (column < 0 ? "all its heads together" : "head " + column) + ", over the whole answer.");
  }
  function byWord(button) {
    var index = Number(button.getAttribute("data-word"));
    layer.value = 0;
    head.value = 0;
    byHead();
    press(button);
    draw(1 + layers.length * (heads + 1) + index, "While it wrote “" + button.textContent + "”: all heads of all layers together. " + button.title + ".");
  }
  squares.forEach(function (one) {
    one.addEventListener("click", function () {
      var row = Number(one.getAttribute("data-layer"));
      var column = Number(one.getAttribute("data-head"));
      if (!veil) { mark(row, column); return; }
      layer.value = row + 1;
      head.value = column + 1;
      byHead();
    });
  });
  if (!veil) { return; }
  words.forEach(function (one) { one.addEventListener("click", function () { byWord(one); }); });
  layer.addEventListener("input", byHead);
  head.addEventListener("input", byHead);
  document.getElementById("reset").addEventListener("click", function () { layer.value = 0; head.value = 0; byHead(); });
  document.getElementById("choose").hidden = false;
}());
