"use strict";
// Enhancement only: the value under the pointer, links that also work in a frame, and everything unfolded on paper.
(function () {
  var tip = document.getElementById("tip");
  function show(event) {
    var mark = event.target.closest ? event.target.closest("[data-tip]") : null;
    if (!mark) { tip.hidden = true; return; }
    tip.textContent = mark.getAttribute("data-tip");
    tip.hidden = false;
    var room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = Math.max(8, Math.min(event.clientX + 12, room)) + "px";
    var above = event.clientY - tip.offsetHeight - 12;
    tip.style.top = (above < 4 ? event.clientY + 16 : above) + "px";
  }
  document.addEventListener("mousemove", show, { passive: true });
  document.addEventListener("scroll", function () { tip.hidden = true; }, { passive: true });
  // In a frame without an address of its own, a link to a place on this page would load the frame's parent.
  document.addEventListener("click", function (event) {
    var link = event.target.closest ? event.target.closest("nav a") : null;
    var place = link && document.getElementById(link.getAttribute("href").slice(1));
    if (place) { event.preventDefault(); place.scrollIntoView({ block: "start" }); }
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details.block").forEach(function (block) { block.open = true; });
  });
})();
