"use strict";
// The slider is a range input that covers the picture, so that mouse, touch and keyboard move it without more ado.
for (const stage of document.querySelectorAll(".stage")) {
  const range = stage.querySelector("input");
  const pictures = [...stage.querySelectorAll("img")];
  if (!range) {
    pictures[0].classList.add("left");
    continue;
  }
  const move = () => {
    stage.style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${Math.round(range.value)} %`);
  };
  const show = (side, name) => {
    for (const picture of pictures) {
      picture.classList.toggle(side, picture.dataset.layer === name);
      if (picture.dataset.layer === name) {
        stage.querySelector(`.tag.${side}`).textContent = picture.dataset.label;
      }
    }
  };
  range.addEventListener("input", move);
  for (const choice of stage.parentElement.querySelectorAll(".choice")) {
    choice.addEventListener("change", (event) => show(choice.dataset.side, event.target.value));
  }
  show("left", range.dataset.left);
  show("right", range.dataset.right);
  // A browser may have kept what it stood on before the page was loaded again.
  range.value = 50;
  move();
}
