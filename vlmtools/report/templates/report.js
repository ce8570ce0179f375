(function () {
  "use strict";
  var pick = document.getElementById("by-model");
  var count = document.getElementById("claims-shown");
  if (!pick) { return; }
  var cards = Array.prototype.slice.call(document.querySelectorAll("article[data-model]"));
  function show() {
    var shown = 0;
    cards.forEach(function (card) {
      var fits = pick.value === "" || card.getAttribute("data-model") === pick.value;
      card.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    count.textContent = shown + " of " + cards.length;
  }
  pick.addEventListener("change", show);
  document.getElementById("filter").hidden = false;
  show();
}());
