// Sorts and filters the films. The page is complete without it.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (name) => document.getElementById(name);
  const form = document.querySelector(".controls");
  const cards = byId("cards");
  const articles = data.films.map((_, place) => byId("film-" + place));
  const strata = [...document.querySelectorAll(".stratum")];
  document.querySelector(".scripted").hidden = false;

  // The figure of a film, as it is shown (percent where it is a share), or null.
  function figureOf(film) {
    const figure = data.figures[byId("figure").value];
    const value = (film.values[byId("of").value] || [])[figure.place];
    if (value === null || value === undefined) return null;
    return figure.percent ? 100 * value : value;
  }

  function isWanted(film, value) {
    const [least, most] = [byId("least").valueAsNumber, byId("most").valueAsNumber];
    if (!film.name.toLowerCase().includes(byId("search").value.trim().toLowerCase())) return false;
    if (!Number.isNaN(least) && (value === null || value < least)) return false;
    if (!Number.isNaN(most) && (value === null || value > most)) return false;
    if (byId("failed").checked && !film.failed) return false;
    return strata.every((each) =>
      !each.value || (film.strata[each.dataset.stratum] || []).includes(each.value));
  }

  function update() {
    const figure = data.figures[byId("figure").value];
    const order = byId("order").value;
    const worstIsLow = figure.higherIsBetter === (order === "worst") ? 1 : -1;
    const films = data.films.map((film, place) => ({ film, place, value: figureOf(film) }));
    films.sort((a, b) => {
      if (order === "name") return a.film.name < b.film.name ? -1 : 1;
      // Films without a value: first among the worst, last among the best.
      if (a.value === null || b.value === null) {
        return ((b.value === null) - (a.value === null)) * (order === "worst" ? 1 : -1) || a.place - b.place;
      }
      return worstIsLow * (a.value - b.value) || a.place - b.place;
    });
    let shown = 0;
    for (const each of films) {
      const wanted = isWanted(each.film, each.value);
      articles[each.place].hidden = !wanted;
      shown += wanted;
      cards.append(articles[each.place]);
    }
    byId("unit").textContent = figure.percent ? "%" : "";
    byId("shown").textContent = String(shown);
  }

  const switches = /^(show|look)-/;
  for (const kind of ["input", "change"]) {
    form.addEventListener(kind, (event) => {
      if (!switches.test(event.target.id)) update();
    });
  }
  form.addEventListener("reset", () => setTimeout(() => {
    for (const article of articles) { article.hidden = false; cards.append(article); }
    byId("unit").textContent = data.figures[byId("figure").value].percent ? "%" : "";
    byId("shown").textContent = String(articles.length);
  }));
  form.addEventListener("submit", (event) => event.preventDefault());
})();
