# SPDX-License-Identifier: Apache-2.0
"""A user of Horizon at a browser: Chromium without a window.

What is clicked and filled in is what a user sees. A form that Horizon
refuses is an error, with what Horizon says.
"""

import io
import tempfile

from PIL import Image
from selenium import webdriver
from selenium.common import exceptions
from selenium.webdriver.chrome import service
from selenium.webdriver.common.by import By
from selenium.webdriver.support import wait

from sandbox import servers

# For one page; a machine may be busy with others.
PATIENCE_SECONDS = 180
_POLL_SECONDS = 0.2
_SIZE = (1280, 800)
_COLOURS = 48

_DIALOG = '#modal_wrapper .modal.in'
_REFUSALS = f'{_DIALOG} .alert-danger, {_DIALOG} .has-error, ' \
    '.messages .alert-danger, toast .alert-danger'

# Chooses the option with a label, by a click where the theme shows links.
_CHOOSE = '''
const [select, label] = arguments;
const options = [...select.options];
const option = options.find(one => one.text.trim().startsWith(label));
if (!option) return options.map(one => one.text.trim());
const link = select.parentElement.querySelector(
    `a[data-select-value="${CSS.escape(option.value)}"]`);
if (link) link.click();
else { select.value = option.value; jQuery(select).trigger('change'); }
return null;
'''
# Nothing fades, so that no picture shows something half.
_STILL = '''
if (document.readyState !== 'complete' || !window.jQuery) return false;
jQuery.fx.off = true;
jQuery.support.transition = false;
if (!document.getElementById('still')) jQuery('head').append(
    '<style id="still">* { transition: none !important; '
    + 'animation: none !important; }</style>');
return true;
'''


class Refused(AssertionError):
    """Horizon did not do what it was asked; the text is what it says."""


class Browser:
    """One browser, as a context manager; see `log_in`.

    :param address: of Horizon
    :param pictures: the folder for its pictures
    """

    def __init__(self, address, pictures):
        self._address = address
        self._pictures = pictures

    def __enter__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = servers.CHROMIUM.required()
        self._profile = tempfile.TemporaryDirectory(prefix='browser-')
        for argument in (
                '--headless=new', '--no-sandbox', '--disable-gpu',
                '--no-first-run', '--disable-sync', '--no-proxy-server',
                '--disable-background-networking', '--hide-scrollbars',
                '--disable-component-update', '--disable-dev-shm-usage',
                '--force-device-scale-factor=1',
                f'--user-data-dir={self._profile.name}',
                '--window-size=%d,%d' % _SIZE):
            options.add_argument(argument)
        self.driver = webdriver.Chrome(
            options=options, service=service.Service(
                servers.CHROMEDRIVER.required()))
        self.driver.set_page_load_timeout(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_):
        self.driver.quit()
        self._profile.cleanup()

    # -- pages -------------------------------------------------------------

    def log_in(self, name, password):
        """Be this user from now on."""
        self.driver.delete_all_cookies()
        self.driver.get(f'{self._address}/auth/login/')
        self._until_still()
        self._find('#id_username').send_keys(name)
        self._find('#id_password').send_keys(password)
        page = self._find('html')
        self._find('#loginBtn, button[type=submit]').click()
        self._until_replaced(page)

    def open(self, panel):
        """Open a page, for example "project/volumes"."""
        self.driver.get(f'{self._address}/{panel}/')
        self._until_still()
        if '/auth/login' in self.driver.current_url:
            raise Refused(f'{panel} asks for a login')

    def tab(self, label, table):
        """Open a tab of the page, which has this table."""
        link, = (each for each in self._all('.nav-tabs a')
                 if each.text == label)
        link.click()
        self._find(f'#{table}')

    def text(self):
        """What the page says."""
        return self._find('#main_content').text

    def row(self, table, identifier):
        """The text of a row of a table."""
        return self._find(f'#{table}__row__{identifier}').text

    def messages(self):
        """What Horizon says at the head of the page, each (level, text)."""
        return [(next(name.removeprefix('alert-') for name
                      in each.get_attribute('class').split()
                      if name.startswith('alert-')
                      and name != 'alert-dismissable'),
                 each.text.replace('\n', ' ').strip())
                for each in self._all('.messages .alert')]

    def picture(self, name):
        """Keep what the browser shows, as a small PNG."""
        self._until_still()
        self._pictures.mkdir(parents=True, exist_ok=True)
        image = Image.open(io.BytesIO(self.driver.get_screenshot_as_png()))
        image.convert('RGB').quantize(
            _COLOURS, dither=Image.Dither.NONE).save(
                self._pictures / f'{name}.png', optimize=True)

    # -- actions -----------------------------------------------------------

    def table_action(self, table, action):
        """Click on a button above a table; opens its form."""
        self._find(f'#{table}__action_{action}').click()
        self._dialog('form')

    def row_action(self, table, identifier, action):
        """Click on an action of a row; opens its form or a question."""
        chosen = f'#{table}__row_{identifier}__action_{action}'
        button = self._find(chosen)
        if not button.is_displayed():
            self._find(f'#{table}__row__{identifier} td.actions_column '
                       '.dropdown-toggle').click()
            self._until(button.is_displayed, f'{chosen} is not shown')
        button.click()
        self._dialog('form, .modal-footer .btn-danger')

    def fill(self, **fields):
        """Fill in a form, in this order.

        :param fields: name -> text, or the label of an option (its begin)
        """
        for name, value in fields.items():
            field = self._find(f'{_DIALOG} #id_{name}')
            if field.tag_name == 'select':
                others = self.driver.execute_script(_CHOOSE, field, value)
                if others is not None:
                    raise Refused(f'{name} offers no {value}, but {others}')
            else:
                field.clear()
                field.send_keys(value)

    def value(self, name):
        """What a field of the form holds."""
        return self._find(f'{_DIALOG} #id_{name}').get_attribute('value')

    def submit(self, dialog=False):
        """Send a form, or answer a question with yes.

        :param dialog: whether another form follows, not a page
        :raises Refused: with what Horizon says
        """
        page = self._find('html')
        form = self._all(f'{_DIALOG} .modal-footer .btn-primary, '
                         f'{_DIALOG} .modal-footer .btn-danger')[-1]
        form.click()
        if dialog:
            self._until(lambda: _gone(form), 'the form stays')
            self._dialog('form')
        else:
            self._until_replaced(page)
        self._raise_refusal()

    # -- waiting -----------------------------------------------------------

    def _find(self, selector):
        self._until(lambda: self._all(selector), f'there is no {selector}')
        return self._all(selector)[0]

    def _all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def _dialog(self, selector):
        """Wait for a dialog with such an element."""
        def shown():
            self._raise_refusal()
            return [each for part in selector.split(', ')
                    for each in self._all(f'{_DIALOG} {part}')
                    if each.is_displayed()]
        self._until(shown, f'no dialog with {selector}')
        self._until_still()

    def _raise_refusal(self):
        found = [each.text.strip() for each in self._all(_REFUSALS)
                 if each.is_displayed()]
        if found:
            raise Refused('; '.join(found))

    def _until_still(self):
        self._until(lambda: self.driver.execute_script(_STILL),
                    'the page is not complete')

    def _until_replaced(self, page):
        """Wait until another page is there, or a refusal."""
        def replaced():
            if _gone(page):
                return True
            self._raise_refusal()
            return False
        self._until(replaced, 'no page follows')
        self._until_still()

    def _until(self, wanted, otherwise):
        try:
            wait.WebDriverWait(
                self.driver, PATIENCE_SECONDS, _POLL_SECONDS,
                [exceptions.StaleElementReferenceException]).until(
                    lambda _driver: wanted())
        except exceptions.TimeoutException:
            raise Refused(f'{otherwise} after {PATIENCE_SECONDS} s on '
                          f'{self.driver.current_url}') from None


def _gone(element):
    """Whether an element belongs to a page that is no longer shown."""
    try:
        element.is_enabled()
    except exceptions.WebDriverException:  # of several kinds
        return True
    return False
