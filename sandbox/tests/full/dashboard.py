# SPDX-License-Identifier: Apache-2.0
"""Horizon answers, and a member can log in to it."""

import re

import requests

from sandbox.tests.full import case


class DashboardTestCase(case.CloudCase):

    def log_in(self, session, password):
        url = f'{self.cloud.dashboard_url}/auth/login/'
        form = session.get(url, timeout=case.PATIENCE_SECONDS)
        self.assertEqual(200, form.status_code, form.text[-500:])
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"',
                          form.text)[1]
        return session.post(url, {
            'csrfmiddlewaretoken': token, 'username': 'member',
            'password': password, 'domain': 'Default',
            'region': 'default', 'auth_type': 'credentials',
        }, headers={'Referer': url}, timeout=case.PATIENCE_SECONDS)

    def test_a_member_logs_in_and_is_shown_the_volumes(self):
        with requests.Session() as session:
            self.log_in(session, self.cloud.login('member')['password'])
            page = session.get(f'{self.cloud.dashboard_url}/project/volumes/',
                               timeout=case.PATIENCE_SECONDS)
        self.assertEqual(200, page.status_code)
        self.assertIn('/project/volumes/', page.url)
        self.assertIn('id="volumes"', page.text)

    def test_a_wrong_password_is_refused(self):
        with requests.Session() as session:
            answer = self.log_in(session, 'wrong')
        self.assertIn('Invalid credentials', answer.text)
