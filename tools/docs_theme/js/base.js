// In place of the theme's script, which stops at its search dialogue where search is off (pages on the disk have none).

// Headings that a link leads to stay below the fixed bar, which takes several lines on a narrow screen.
function keepBelowBar() {
    var top = document.querySelector('body > .container').offsetTop;
    document.documentElement.style.scrollPaddingTop = top + 'px';
    document.querySelectorAll('.bs-sidebar.affix').forEach(function (sidebar) { sidebar.style.top = top + 'px'; });
}

document.addEventListener('DOMContentLoaded', keepBelowBar);
window.addEventListener('resize', keepBelowBar);

// The heading that is being read is marked in the page's list.
new bootstrap.ScrollSpy(document.body, { target: '.bs-sidebar' });

document.addEventListener('keydown', function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    var towards = { n: 'next', p: 'prev' }[event.key];
    var link = towards && document.querySelector('.navbar a[rel="' + towards + '"][href]');
    if (link) window.location.href = link.href;
});
