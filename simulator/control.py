# SPDX-License-Identifier: Apache-2.0
"""What tests ask of a simulated vCenter beside the vSphere API.

The requests are described in simulator/docs/control.md.
"""

import requests


class ControlError(Exception):
    """The control endpoint refused a request. The message is its own."""


class Control:
    """The control endpoint of a simulated vCenter.

    :param url: ``Simulator.control_url``
    """

    def __init__(self, url):
        self.url = url

    def call(self, method, path, body=None, /, **query):
        """One request.

        :param body: what to send as JSON, or bytes to send as they are
        :returns: the reply's JSON, or its text if it is none
        :raises ControlError: with the endpoint's words
        """
        payload = {}
        if body is not None:
            payload['data' if isinstance(body, bytes) else 'json'] = body
        # A large state takes long to be saved.
        reply = requests.request(method, self.url + path, params=query,
                                 timeout=600 if path == '/state' else 60,
                                 **payload)
        content_type = reply.headers.get('Content-Type', '')
        is_json = content_type.startswith('application/json')
        answer = reply.json() if is_json else reply.text
        if reply.status_code >= 400:
            words = answer.get('error') if isinstance(answer, dict) else None
            raise ControlError(words or f'{reply.status_code} {answer}')
        return answer

    # Faults

    def fault(self, **rule):
        """Add a rule.

        For example ``fault(method='CreateVM_Task', count=1,
        task_fault={'type': 'NoDiskSpace'})``.

        :returns: the rule, with its id
        """
        return self.call('POST', '/faults', rule)

    def faults(self):
        """All rules, with how often each matched and hit."""
        return self.call('GET', '/faults')

    def remove_fault(self, rule):
        """Take away a rule that fault() returned; its tasks go on."""
        return self.call('DELETE', f'/faults/{rule["id"]}')

    def reset_faults(self):
        """Take away all rules; tasks that hang by them go on."""
        return self.call('DELETE', '/faults')

    def release(self, rule):
        """Let the tasks go on that hang by a rule."""
        return self.call('POST', f'/faults/{rule["id"]}/release')

    # Disks

    def let_go_of_disks(self):
        """Have hosts unlock the disks that running machines gave back.

        :returns: how many were still locked
        """
        return self.call('DELETE', '/locks')['let_go']

    # Users, roles and permissions

    def grant(self, users=(), roles=None, permissions=()):
        """Add users, roles and permissions, or replace those of the same names.

        For example ``grant([{'name': 'cinder', 'password': 'secret'}],
        {'volumes': ['Folder.Create']},
        [{'entity': '/DC0', 'user': 'cinder', 'role': 'volumes'}])``.

        :returns: all users, roles and permissions
        """
        return self.call('POST', '/privileges', {
            'users': list(users), 'roles': roles or {},
            'permissions': list(permissions)})

    def granted(self):
        """All users, roles that clients made, and permissions."""
        return self.call('GET', '/privileges')

    def used_privileges(self, user=''):
        """Which privileges were checked: of all users, or of one.

        :returns: dicts with user, method, privilege, object, property,
            checked, denied
        """
        return self.call('GET', '/privileges/used', user=user)

    def forget_used_privileges(self):
        """Begin to remember checks anew.

        :returns: those that were remembered
        """
        return self.call('DELETE', '/privileges/used')

    # Journal

    def journal(self):
        """What was called since the last reset, in all and by method.

        :returns: calls, faults, request_bytes, response_bytes, methods ...
        """
        return self.call('GET', '/journal')

    def calls(self, last=100):
        """The calls that ended last, one by one, the oldest first."""
        return self.call('GET', '/journal/calls', last=last)

    def reset_journal(self):
        """Forget all calls.

        :returns: the journal as it was
        """
        return self.call('DELETE', '/journal')

    # Sessions

    def sessions(self):
        """The sessions that live."""
        return self.call('GET', '/sessions')

    def kill_sessions(self, user=None):
        """End all sessions, or all of one user.

        :returns: those that were ended
        """
        query = {'user': user} if user else {}
        return self.call('DELETE', '/sessions', **query)

    def kill_session(self, session):
        """End one session, as sessions() lists it."""
        return self.call('DELETE', f'/sessions/{session["id"]}')

    def watching(self):
        """How many collectors, filters and views all sessions have."""
        return self.call('GET', '/watching')

    # State

    def save_state(self, directory):
        """Save the state in a folder, in place of what is saved there.

        :param directory: an absolute path
        """
        return self.call('POST', '/state', {'directory': str(directory)})

    def load_state(self, directory):
        """Have a supervised simulator start again from a saved state."""
        return self.call('POST', '/state/load',
                         {'directory': str(directory)})

    def process(self):
        """The process that serves: pid, started, restored.

        With supervision it is a child of the one that was started.
        """
        return self.call('GET', '/process')
